"""Seeds that keep training, evaluation, and runs with neighbouring seeds apart.

`reset(seed=s)` seeds environment i with s + i, so runs whose base seeds are 0 and 1 would share all
but one of their episodes. The base seeds here are 2**31 apart.
"""

SEED_LIMIT = 2**31
"""Seeds of runs and of evaluations lie in [0, SEED_LIMIT)."""


def training_seed(seed: int) -> int:
    """Base seed of a run's training environments, seed * 2**32.

    Args:
        seed: Seed of the run, in [0, 2**31).

    Returns:
        Seed of the first environment, an int64. Runs share no stream with each other or with any
        evaluation as long as they have at most 2**31 environments.

    Raises:
        ValueError: If the seed is outside its range.
    """
    if not 0 <= seed < SEED_LIMIT:
        raise ValueError(f"got seed {seed}; allowed are 0 to 2**31 - 1")
    return seed * 2**32


def evaluation_seed(seed: int) -> int:
    """Base seed of the evaluation episodes, seed * 2**32 + 2**31.

    Args:
        seed: Seed of the evaluation, in [0, 2**31).

    Returns:
        Seed of the first episode, an int64.

    Raises:
        ValueError: If the seed is outside its range.
    """
    return training_seed(seed) + 2**31
