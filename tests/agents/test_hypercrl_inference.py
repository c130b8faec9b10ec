import dataclasses
import io
import math

import pytest
import torch
from torch import Tensor

from separatrix.agents.hypercrl.inference import (
    BoundaryDetector,
    Calibration,
    TaskInference,
    calibrate,
    standardised_errors,
)

NAN = math.nan
UNIT = Calibration(mean=0.0, deviation=1.0, correlation=1.0, threshold=5.0)


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def errors_of(residuals: Tensor, deviations: Tensor) -> Tensor:
    """Standardised errors, (steps, rows, tasks), of residuals (steps, rows, tasks, outputs)."""
    return torch.stack([standardised_errors(step, deviations) for step in residuals])


def test_standardised_errors_by_hand() -> None:
    residuals = torch.tensor([[[3.0, 8.0], [1.0, 0.0]]])
    found = standardised_errors(residuals, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[12.5**0.5, 0.125**0.5]]))


def test_evidence_is_the_normal_density() -> None:
    deviations = torch.tensor([[0.5, 2.0, 1.0], [3.0, 0.1, 1.0]], dtype=torch.float64)
    residuals = normal(0, 6, 4, 2, 3)
    inference = TaskInference(deviations, 4, memory=math.inf)
    for step in errors_of(residuals, deviations):
        inference.update(step)
    density = torch.distributions.Normal(torch.zeros_like(deviations), deviations)
    expected = density.log_prob(residuals).sum((0, 3)).softmax(1)
    torch.testing.assert_close(inference.probabilities, expected)
    assert torch.equal(inference.tasks, expected.argmax(1))


def test_evidence_fades() -> None:
    inference = TaskInference(torch.ones((2, 1)), 1, memory=4.0)
    for error in (1.0, 2.0, 3.0):
        inference.update(torch.tensor([[error, 0.0]]))
    expected = -0.5 * (0.75**2 * 1 + 0.75 * 4 + 9)
    torch.testing.assert_close(inference.evidence, torch.tensor([[expected, 0.0]]).double())


def test_the_task_is_found_and_found_again_after_it_changed() -> None:
    deviations = torch.tensor([[0.1, 0.1], [0.1, 0.1], [0.4, 0.4]], dtype=torch.float64)
    truth = torch.arange(30) % 3
    # The model of another task is wrong by half a unit more.
    wrong = (torch.arange(3) != truth[:, None]).double()[..., None] * 0.5
    residuals = normal(1, 60, 30, 3, 2) * deviations + wrong
    errors = errors_of(residuals, deviations)
    inference = TaskInference(deviations, 30, memory=10.0)
    for step in errors[:10]:
        inference.update(step)
    assert torch.equal(inference.tasks, truth)
    assert (inference.probabilities.max(1).values > 0.99).all()
    for step in errors[10:].roll(1, 1):
        inference.update(step)
    assert torch.equal(inference.tasks, truth.roll(1))


def test_of_two_models_that_are_wrong_alike_the_sharp_one_would_have_been_right() -> None:
    """An error within the deviation of a poor model says more for a good model that has it, too."""
    inference = TaskInference(torch.tensor([[1.0], [0.1]]), 1)
    inference.update(
        standardised_errors(torch.tensor([[[0.1], [0.1]]]), torch.tensor([[1.0], [0.1]]))
    )
    assert inference.tasks.tolist() == [1]


def test_rows_are_reset_and_broken_alone() -> None:
    deviations = torch.ones((2, 3))
    errors = normal(2, 5, 4, 2).abs()
    broken = errors.clone()
    broken[2, 1, 0] = NAN
    broken[:, 3] = torch.inf
    whole, partial = TaskInference(deviations, 4), TaskInference(deviations, 4)
    skipping = TaskInference(deviations, 4)
    for step in range(5):
        whole.update(errors[step])
        partial.update(broken[step])
        if step != 2:
            skipping.update(errors[step])
    assert torch.equal(partial.evidence[[0, 2]], whole.evidence[[0, 2]])
    assert torch.equal(partial.evidence[1], skipping.evidence[1])
    assert torch.equal(partial.probabilities[3], torch.tensor([0.5, 0.5]).double())
    whole.reset(torch.tensor([False, True, False, False]))
    assert torch.equal(whole.evidence[1], torch.zeros(2).double())
    assert torch.equal(whole.evidence[[0, 2]], partial.evidence[[0, 2]])


def test_inference_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"deviations: got \[\[1.0\], \[0.0\]\]"):
        TaskInference(torch.tensor([[1.0], [0.0]]), 1)
    with pytest.raises(ValueError, match=r"memory: got 1.0; allowed: above 1"):
        TaskInference(torch.ones((1, 1)), 1, memory=1.0)


@pytest.mark.parametrize(("threshold", "run_length"), [(4.0, 2 * 168.0), (5.0, 2 * 465.0)])
def test_threshold_is_that_of_the_tables(threshold: float, run_length: float) -> None:
    """D. C. Montgomery, Introduction to statistical quality control, table 9.3, for a shift of 1.

    Its run lengths are those of charts of both sides, which are half as long.
    """
    errors = normal(3, 20_000, 1).exp()
    found = calibrate(errors, run_length=run_length, block=1)
    assert found.threshold == pytest.approx(threshold, abs=0.25)
    assert (found.mean, found.deviation) == pytest.approx((0.0, 1.0), abs=0.03)
    assert found.correlation == pytest.approx(1.0, abs=0.1)


def test_calibration_of_errors_that_resemble_their_neighbours() -> None:
    white = normal(4, 4000, 8)
    smooth = [white[0]]
    for step in white[1:]:
        smooth.append(0.8 * smooth[-1] + 0.6 * step)
    found = calibrate(torch.stack(smooth).exp(), run_length=1000.0, block=50)
    independent = calibrate(white.exp(), run_length=1000.0, block=50)
    # In the limit of long blocks (1 + 0.8) / (1 - 0.8) = 9; (9 - 40 (1 - 0.8^50) / 50) here.
    assert found.correlation == pytest.approx(8.2, abs=0.8)
    assert found.threshold > 2 * independent.threshold
    assert calibrate(white.exp(), run_length=1000.0, block=50) == independent


def false_alarms(errors: Tensor, calibration: Calibration) -> float:
    """Alarms for each watched step in errors, (steps, rows), of a task that does not change."""
    rows = errors.shape[1]
    detector = BoundaryDetector([calibration], torch.ones((1, 1)), rows, confirmation=1)
    current = torch.zeros(rows, dtype=torch.int64)
    alarms = sum(int(detector.update(step[:, None], current).alarm.sum()) for step in errors)
    return alarms / (errors.numel() - alarms)  # no alarm is raised in the step after one


@pytest.mark.parametrize("smooth", [False, True])
def test_false_alarms_are_as_rare_as_asked(smooth: bool) -> None:
    # Chi-distributed errors of three outputs, at their levels for a while if smooth.
    def chi(seed: int, steps: int, rows: int) -> Tensor:
        values = normal(seed, steps, rows, 3).square().mean(-1).sqrt()
        return values.repeat_interleave(4, 0) if smooth else values

    calibration = calibrate(chi(5, 1000, 20), run_length=500.0, block=40)
    found = false_alarms(chi(6, 1000, 400), calibration)
    assert found == pytest.approx(1 / 500, rel=0.25)


def test_delay_is_the_least_number_of_steps_that_reach_the_threshold() -> None:
    detector = BoundaryDetector([UNIT, UNIT], torch.ones((2, 1)), 3, confirmation=6)
    current = torch.zeros(3, dtype=torch.int64)
    excess = torch.tensor([1.0, 2.0, 0.25])  # half a unit less at each step: 11, 4 steps, never
    errors = torch.stack((excess.exp(), torch.ones(3)), 1)
    alarms, detections = [], []
    for step in range(1, 18):
        change = detector.update(errors, current)
        alarms += [(step, row) for row in change.alarm.nonzero()[:, 0].tolist()]
        detections += [(step, row) for row in change.detected.nonzero()[:, 0].tolist()]
        assert torch.equal(change.task, torch.where(change.detected, 1, -1))
    # Each is told six steps later; then the row starts anew, as the task it is taken for stays 0.
    assert alarms == [(4, 1), (11, 0), (14, 1)]
    assert detections == [(10, 1), (17, 0)]


def test_delay_of_noisy_errors_is_that_of_the_tables() -> None:
    """Montgomery, table 9.3: 10.4 steps for threshold 5 and a change by one deviation."""
    rows = 2000
    detector = BoundaryDetector([UNIT], torch.ones((1, 1)), rows)
    current = torch.zeros(rows, dtype=torch.int64)
    delay = torch.zeros(rows)
    for step, values in enumerate((normal(7, 100, rows) + 1).exp(), start=1):
        alarm = detector.update(values[:, None], current).alarm
        delay = torch.where(alarm & (delay == 0), float(step), delay)
    assert delay.min() > 0
    assert delay.mean().item() == pytest.approx(10.4, abs=0.3)


@pytest.mark.parametrize("wrong_by", [0.4, 1.0])
def test_known_tasks_are_named_and_unknown_ones_not(wrong_by: float) -> None:
    """Three tasks are known; the current one is 0, then 1, 2 or one that is not known comes."""
    rows, deviations = 60, torch.tensor([[0.1] * 3, [0.2] * 3, [0.1] * 3], dtype=torch.float64)

    def errors(seed: int, steps: int, truth: Tensor) -> Tensor:
        wrong = (torch.arange(3) != truth[:, None]).double()[..., None] * wrong_by
        return errors_of(normal(seed, steps, rows, 3, 3) * deviations + wrong, deviations)

    calibrations = [
        calibrate(errors(8, 200, torch.full((rows,), task))[..., task]) for task in range(3)
    ]
    detector = BoundaryDetector(calibrations, deviations, rows)
    current = torch.zeros(rows, dtype=torch.int64)
    alarms = 0
    for step in errors(9, 100, current):
        change = detector.update(step, current)
        alarms += int(change.alarm.sum())
        assert not change.detected.any()
    assert alarms <= 5  # 0.6 are to be expected in 6000 steps
    truth = torch.arange(rows) % 3 + 1  # 3 is none of those known
    named = torch.full((rows,), -2)
    for step in errors(10, 60, truth):
        change = detector.update(step, current)
        named = torch.where(change.detected & (named == -2), change.task, named)
    assert torch.equal(named, torch.where(truth == 3, -1, truth))


def test_a_false_alarm_is_taken_back() -> None:
    detector = BoundaryDetector([UNIT, UNIT], torch.ones((2, 1)), 1, confirmation=3)
    current = torch.zeros(1, dtype=torch.int64)
    assert detector.update(torch.tensor([[math.e**6, 1.0]]), current).alarm.all()
    for _ in range(10):
        change = detector.update(torch.tensor([[0.5, 2.0]]), current)
        assert not change.alarm.any() and not change.detected.any()


def test_a_row_starts_anew_after_a_reset() -> None:
    detector = BoundaryDetector([UNIT], torch.ones((1, 1)), 2, confirmation=2)
    current, wrong = torch.zeros(2, dtype=torch.int64), torch.full((2, 1), math.e**2.9)
    first, second = torch.tensor([True, False]), torch.tensor([False, True])
    assert not detector.update(wrong, current).alarm.any()
    detector.update(wrong, current)
    detector.reset(first)
    assert torch.equal(detector.update(wrong, current).alarm, second)  # after 3 steps of 2.4
    detector.update(wrong, current)
    detector.reset(second)
    change = detector.update(wrong, current)
    assert torch.equal(change.alarm, first) and not change.detected.any()
    assert not detector.update(wrong, current).detected.any()
    change = detector.update(wrong, current)
    assert torch.equal(change.alarm, second)
    assert torch.equal(change.detected, first)


def test_a_broken_row_of_the_detector_disturbs_no_other() -> None:
    detectors = [BoundaryDetector([UNIT, UNIT], torch.ones((2, 2)), 3) for _ in range(2)]
    current = torch.zeros(3, dtype=torch.int64)
    for errors in (normal(11, 60, 3, 2) + 0.7).exp():
        broken = errors.clone()
        broken[1, 1] = NAN
        whole, partial = (
            detector.update(values, current)
            for detector, values in zip(detectors, (errors, broken), strict=True)
        )
        for found, expected in zip(partial, whole, strict=True):
            assert torch.equal(found[[0, 2]], expected[[0, 2]])
        assert not partial.alarm[1]


def test_what_was_saved_goes_on_alike() -> None:
    calibrations = [UNIT, dataclasses.replace(UNIT, mean=0.3, correlation=2.0)]
    deviations = torch.tensor([[0.3], [1.5]])
    errors = (normal(12, 60, 5, 2) + 2).exp()
    current = torch.tensor([0, 1, 0, 1, 0])
    detector, inference = (
        BoundaryDetector(calibrations, deviations, 5),
        TaskInference(deviations, 5),
    )
    for step in errors[:30]:
        detector.update(step, current)
        inference.update(step)
    file = io.BytesIO()
    torch.save((detector.state_dict(), inference.state_dict()), file)
    states = torch.load(io.BytesIO(file.getvalue()))
    # Made with another task, which what is loaded replaces.
    resumed = BoundaryDetector([UNIT], torch.ones((1, 1)), 5)
    inferring = TaskInference(torch.ones((1, 1)), 5)
    resumed.load_state_dict(states[0])
    inferring.load_state_dict(states[1])
    detections = 0
    for step in errors[30:]:
        expected, found = detector.update(step, current), resumed.update(step, current)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)
        detections += int(found.detected.sum())
        inference.update(step)
        inferring.update(step)
    assert detections > 0
    assert torch.equal(inferring.evidence, inference.evidence)


def test_calibration_refuses_what_makes_no_sense() -> None:
    errors = normal(13, 100, 2).exp()
    with pytest.raises(ValueError, match=r"block: got 101; allowed: 1 to 100"):
        calibrate(errors, block=101)
    with pytest.raises(ValueError, match=r"run_length: got 10.0"):
        calibrate(errors, run_length=10.0)
    with pytest.raises(ValueError, match=r"shift: got 0.0"):
        calibrate(errors, shift=0.0)
    with pytest.raises(ValueError, match=r"allowed: finite"):
        calibrate(errors * NAN)
    with pytest.raises(ValueError, match=r"numbers that differ"):
        calibrate(torch.ones_like(errors))
    with pytest.raises(ValueError, match=r"confirmation: got 0"):
        BoundaryDetector([UNIT], torch.ones((1, 1)), 1, confirmation=0)
    with pytest.raises(ValueError, match=r"calibrations: got 1; allowed: one for each of 2"):
        BoundaryDetector([UNIT], torch.ones((2, 1)), 1)
