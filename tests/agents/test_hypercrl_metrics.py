import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separatrix.agents.hypercrl import metrics

NAN = math.nan
HAND = torch.tensor([[0.8, 0.1, 0.0], [0.6, 0.9, 0.2], [0.4, 1.0, 0.05]], dtype=torch.float64)


def matrices(least: int = 2) -> st.SearchStrategy[Tensor]:
    """Square matrices of scores of 2 to 6 tasks."""
    score = st.floats(-2.0, 2.0)
    return st.integers(least, 6).flatmap(
        lambda n: st.lists(score, min_size=n * n, max_size=n * n).map(
            lambda values: torch.tensor(values, dtype=torch.float64).view(n, n)
        )
    )


def test_by_hand() -> None:
    assert metrics.own_scores(HAND).tolist() == [0.8, 0.9, 0.05]
    assert metrics.final_scores(HAND).tolist() == [0.4, 1.0, 0.05]
    assert metrics.forgetting(HAND).tolist() == pytest.approx([0.4, -0.1, 0.0])
    kept = metrics.retention(HAND)
    assert kept[:2].tolist() == pytest.approx([0.5, 1 / 0.9])
    assert kept[2].isnan()  # 0.05 is below the floor
    found = {name: value.item() for name, value in metrics.summary(HAND).items()}
    backward = (-0.2 - 0.4 + 0.1) / 3
    assert found == pytest.approx(
        {
            "average_performance": 1.45 / 3,
            "own_performance": 1.75 / 3,
            "forgetting": 0.1,
            "retention": (0.5 + 1 / 0.9) / 2,
            "accuracy": (0.8 + 0.6 + 0.9 + 0.4 + 1.0 + 0.05) / 6,
            "backward_transfer": backward,
            "remembering": 1 + backward,
            "positive_backward_transfer": 0.0,
            "zero_shot_transfer": 0.1,
        }
    )


def test_a_run_that_goes_on() -> None:
    begun = HAND[:2]
    assert metrics.average_performance(begun).item() == pytest.approx(0.75)
    assert metrics.forgetting(begun).tolist() == pytest.approx([0.2, 0.0])
    assert metrics.accuracy(begun).item() == pytest.approx((0.8 + 0.6 + 0.9) / 3)
    assert metrics.backward_transfer(begun).item() == pytest.approx(-0.2)
    assert metrics.zero_shot_transfer(begun).item() == pytest.approx(0.1)


def test_a_single_task_has_nothing_to_forget_or_transfer() -> None:
    found = metrics.summary(torch.tensor([[0.7]]))
    assert found["forgetting"] == 0
    assert found["retention"] == 1
    for name in ("backward_transfer", "remembering", "zero_shot_transfer"):
        assert found[name].isnan()


@settings(max_examples=50)
@given(matrices())
def test_who_keeps_everything_forgets_nothing(scores: Tensor) -> None:
    own = scores.diagonal()
    kept = torch.where(torch.ones_like(scores).tril().bool(), own, scores)
    found = metrics.summary(kept)
    assert found["forgetting"] == found["backward_transfer"] == 0
    assert found["positive_backward_transfer"] == 0
    assert found["remembering"] == 1
    torch.testing.assert_close(found["average_performance"], own.mean())
    assert torch.equal(metrics.retention(kept)[own > 0.1], torch.ones_like(own[own > 0.1]))


@settings(max_examples=50)
@given(st.integers(2, 8), st.floats(0.2, 2.0))
def test_who_forgets_everything_keeps_the_last_task(tasks: int, score: float) -> None:
    found = metrics.summary(score * torch.eye(tasks, dtype=torch.float64))
    assert found["average_performance"].item() == pytest.approx(score / tasks)
    assert found["forgetting"].item() == pytest.approx(score * (tasks - 1) / tasks)
    assert found["retention"].item() == pytest.approx(1 / tasks)
    assert found["backward_transfer"].item() == pytest.approx(-score)
    assert found["remembering"].item() == pytest.approx(1 - score)
    assert found["zero_shot_transfer"] == 0


@settings(max_examples=50)
@given(matrices(), matrices())
def test_own_less_forgetting_is_performance(scores: Tensor, other: Tensor) -> None:
    found = metrics.summary(scores)
    difference = found["own_performance"] - found["forgetting"]
    torch.testing.assert_close(difference, found["average_performance"])
    # The one part of each is nothing of the other's business.
    if scores.shape == other.shape:
        mixed = metrics.summary(scores.tril() + other.triu(1))
        for name in set(found) - {"zero_shot_transfer"}:
            torch.testing.assert_close(mixed[name], found[name], equal_nan=True)


@settings(max_examples=50)
@given(st.integers(1, 5), st.integers(2, 5))
def test_seeds_do_not_disturb_each_other(seeds: int, tasks: int) -> None:
    generator = torch.Generator().manual_seed(seeds * 10 + tasks)
    scores = torch.rand((seeds, tasks, tasks), generator=generator, dtype=torch.float64)
    scores[0] = NAN
    found = metrics.summary(scores)
    order = torch.randperm(seeds, generator=generator)
    shuffled = metrics.summary(scores[order])
    for name, values in found.items():
        assert values.shape == (seeds,)
        assert values[0].isnan()
        assert values[1:].isfinite().all()
        torch.testing.assert_close(shuffled[name], values[order], equal_nan=True)
        for row in range(1, seeds):
            alone = metrics.summary(scores[row])[name]
            torch.testing.assert_close(alone, values[row])


def test_what_was_not_measured_is_left_out() -> None:
    scores = HAND.clone()
    scores[2, 0] = NAN
    scores[0, 2] = NAN
    assert metrics.average_performance(scores).item() == pytest.approx(1.05 / 2)
    assert metrics.forgetting(scores)[0].isnan()
    assert metrics.forgetting(scores).nanmean().item() == pytest.approx(-0.05)
    assert metrics.backward_transfer(scores).item() == pytest.approx(-0.05)
    assert metrics.zero_shot_transfer(scores).item() == pytest.approx(0.15)


def test_more_trainings_than_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got 3 rows for 2 tasks; allowed: 1 to 2"):
        metrics.average_performance(HAND[:, :2])
    with pytest.raises(ValueError, match="got 0 rows"):
        metrics.accuracy(HAND[:0])
    with pytest.raises(ValueError, match=r"floor: got -1"):
        metrics.retention(HAND, -1.0)


def test_area_of_curves() -> None:
    steps = torch.tensor([0.0, 100.0, 400.0])
    rising, flat = torch.tensor([0.0, 1.0, 1.0]), torch.full((3,), 0.3)
    found = metrics.curve_area(steps, torch.stack((rising, flat)))
    assert found.tolist() == pytest.approx([(50 + 300) / 400, 0.3])
    assert metrics.curve_area(torch.tensor([7.0]), torch.tensor([0.4])).item() == pytest.approx(0.4)
    broken = torch.stack((torch.tensor([0.0, NAN, 1.0]), flat))
    assert metrics.curve_area(steps, broken).isnan().tolist() == [True, False]
    with pytest.raises(ValueError, match=r"steps: got \[1.0, 1.0\]"):
        metrics.curve_area(torch.ones(2), torch.ones(2))


def test_forward_transfer() -> None:
    baseline = torch.tensor([0.5, 0.5, 0.5, 0.94, 0.96, 1.2, NAN])
    areas = torch.tensor([0.5, 1.0, 0.25, 0.97, 0.97, 0.97, 0.5])
    found = metrics.forward_transfer(areas, baseline)
    assert found[:4].tolist() == pytest.approx([0.0, 1.0, -0.5, 0.5], abs=1e-5)
    assert found[4:].isnan().all()  # alone it is learned at once, or was not tried


def test_interval_over_seeds() -> None:
    values = torch.tensor([0.1, NAN, 0.5, 0.3, 0.7])
    found = metrics.interval(values)
    assert found.mean == pytest.approx(0.4)
    assert 0.1 < found.low < 0.4 < found.high < 0.7
    assert found.seeds == 4
    wider = metrics.interval(values, level=0.99)
    assert wider.low < found.low and wider.high > found.high
    assert metrics.interval(torch.tensor([0.25])) == (0.25, 0.25, 0.25, 1)
    nothing = metrics.interval(torch.tensor([NAN]))
    assert math.isnan(nothing.mean) and nothing.seeds == 0
