"""LQR, LQG and proportional feedback of fields, on linear models and on the environments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers.catalog import make_controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqg import LQG
from separatrix.controllers.lqr import LQR, state_weights
from separatrix.controllers.proportional import Proportional
from separatrix.envs.analysis.linearization import linearize, target_state
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take

KS = "KuramotoSivashinsky-v0"


def made(num_envs: int = 1, **options: Any) -> Any:
    """Makes the environment with the torch backend, which has no kernels to compile."""
    return make_environment(KS, num_envs, backend="torch", **options)


def near(environment: Any, rows: int, size: torch.Tensor | float) -> Any:
    """Returns states near the target, and the target: all differ by one shape, of these heights."""
    point = target_state(environment, environment.task, environment.dtype)
    state = take(point, torch.zeros(rows, dtype=torch.int64))
    generator = torch.Generator().manual_seed(3)
    spectrum = torch.zeros((1, 1, 33), dtype=torch.complex128)
    spectrum[:, :, 1:6] = torch.randn((1, 1, 5), generator=generator, dtype=torch.complex128)
    shape = torch.fft.irfft(spectrum, 64, norm="forward")
    deviation = torch.as_tensor(size).view(-1, 1, 1) * shape / shape.abs().max()
    return replace(state, field=state.field + deviation.to(environment.dtype)), point.field


@pytest.mark.parametrize("name", ["E1", "E2", "E3"])
def test_the_gain_makes_the_linearized_step_contract(name: str) -> None:
    environment = made(target_name=name)
    model, controller = linearize(environment), LQR(environment)
    closed = model.a - model.b @ controller.gain
    # But for the mean, which nothing changes.
    sizes = torch.linalg.eigvals(closed)[0].abs().sort(descending=True).values
    assert torch.linalg.eigvals(model.a).abs().max() > 1.02
    assert sizes[0] == pytest.approx(1.0, abs=1e-9) and sizes[1] < 0.999
    mean = torch.ones(64, dtype=torch.float64)
    torch.testing.assert_close(mean @ closed[0], mean, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        controller.gain[0] @ mean, torch.zeros(4).double(), rtol=0, atol=1e-8
    )


def test_cost_on_the_environment_tends_to_the_riccati_value() -> None:
    environment = made(dtype="float64")
    controller = LQR(environment, control_weight=0.1)
    weight = torch.from_numpy(state_weights(environment, linearize(environment))[0])
    state, target = near(environment, 2, torch.tensor([1e-2, 1e-3]))
    measured = torch.zeros(2, dtype=torch.float64)
    expected = value(controller, state.field - target)
    for _ in range(60):
        deviation = (state.field - target).flatten(1)
        action = controller.act(environment.observe(state), state)
        measured += ((deviation @ weight) * deviation).sum(1) + 0.1 * action.square().sum(1)
        state = environment.step(state, action).state
    # The rest of the way costs what is left (Bellman's principle).
    left = value(controller, state.field - target)
    assert (left < 0.5 * expected).all()
    errors = ((measured + left) / expected - 1).abs()
    assert errors[1] < 2e-3 and errors[1] < errors[0]


def value(controller: LQR, deviation: torch.Tensor) -> torch.Tensor:
    """Returns the Riccati values of deviations from the target."""
    flat = deviation.flatten(1)
    return ((flat @ controller.cost[0]) * flat).sum(1)


def test_each_environment_gets_the_gain_of_its_own_length() -> None:
    lengths = [21.8, 22.0, 22.3]
    together = LQR(made(3, length=lengths, dtype="float64"))
    assert together.gain.shape == (3, 4, 64)
    for row, length in enumerate(lengths):
        alone = LQR(made(length=length, dtype="float64"))
        torch.testing.assert_close(together.gain[row], alone.gain[0], rtol=1e-5, atol=1e-6)
    assert (together.gain[0] - together.gain[2]).abs().max() > 1e-3


def test_single_precision_changes_little() -> None:
    gains = [LQR(made(dtype=dtype)).gain for dtype in ("float32", "float64")]
    torch.testing.assert_close(gains[0], gains[1], rtol=0, atol=1e-4)


def test_a_mode_that_no_actuator_moves_is_refused() -> None:
    # Two sine waves vanish at i L / 4, so zero cannot be held by four actuators there.
    with pytest.raises(ValueError, match="cannot be stabilized: a mode that grows by the factor"):
        LQR(made(target_name="zero"))
    LQR(made(target_name="zero", actuators=5))


def test_without_a_target_there_is_no_linear_design() -> None:
    environment = made(task="reduce_power")
    for name in ("lqr", "proportional"):
        with pytest.raises(ValueError, match=r"the task has no"):
            make_controller(name, environment)


def test_lqg_holds_the_target_with_eight_sensors() -> None:
    environment = made(dtype="float64")
    controller = LQG(environment, process_noise=1e-4, measurement_noise=1e-4)
    state, target = near(environment, 1, 0.02)
    controller.reset(torch.ones(1, dtype=torch.bool))
    free = state
    for _ in range(60):
        state = environment.step(state, controller.act(environment.observe(state), state)).state
        free = environment.step(free, torch.zeros(1, 4).double()).state
    assert (free.field - target).abs().max() > 0.05
    assert (state.field - target).abs().max() < 0.02


@pytest.mark.parametrize("name", ["lqr", "proportional"])
def test_zero_is_held_from_the_attractor(name: str) -> None:
    environment = made(target_name="zero", actuators=8, authority=5.0, horizon=40)
    found = evaluate(environment, make_controller(name, environment), torch.arange(4))
    assert found.metrics["on_target"].mean() > 0.5 and not found.diverged.any()


def test_proportional_feedback_opposes_the_deviation_where_it_acts() -> None:
    environment = made(dtype="float64", target_name="zero")
    controller, (state, _) = Proportional(environment, gain=0.5), environment.reset(0)
    field = torch.zeros_like(state.field)
    field[..., 15:18] = 0.1  # around L / 4, where the second actuator is
    action = controller.act(environment.observe(state), replace(state, field=field))
    assert action[0, 1] < -0.01 and action[0, [0, 2, 3]].abs().max() < 0.2 * action[0, 1].abs()
    # It takes energy out, whatever the field.
    force = torch.einsum(
        "ba,afx->bfx",
        controller.act(environment.observe(state), state),
        environment.system.actuators,
    )
    assert float((force * state.field).sum()) < 0


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gain: got 0; allowed: a number > 0"):
        Proportional(made(), gain=0)
    with pytest.raises(ValueError, match="acts on fields"):
        Proportional(make_environment("Lorenz-v0"))
