import itertools

import pytest

from separatrix.agents.common.seeding import SEED_LIMIT, evaluation_seed, training_seed


def test_neighbouring_runs_and_evaluations_share_no_seed() -> None:
    bases = sorted(f(seed) for seed in range(50) for f in (training_seed, evaluation_seed))
    assert min(b - a for a, b in itertools.pairwise(bases)) >= 2**31


def test_seeds_fit_into_64_bits() -> None:
    last = evaluation_seed(SEED_LIMIT - 1) + 2**31 - 1
    assert last == 2**63 - 1


@pytest.mark.parametrize("seed", [-1, SEED_LIMIT])
def test_seeds_outside_the_range_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=str(seed)):
        training_seed(seed)
    with pytest.raises(ValueError, match=str(seed)):
        evaluation_seed(seed)
