"""Kernels of the glucose model compute what the torch reference defines; gradients through them.

These tests are of the numba kernel, or with TRITON_INTERPRET=1 of the Triton kernel.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.twin.glucose.model import COMPARTMENTS
from separatrix.envs.twin.glucose.patients import patient_names
from separatrix.envs.twin.glucose.system import GlucoseState

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
KERNEL = "triton" if INTERPRETED else "numba"
ROWS = 3 if INTERPRETED else 70
kernels = pytest.mark.parametrize("backend", [KERNEL])
NOON = 12 * 60 // 5
SCALE = np.array([2e4, 2e4, 2e4, 250, 180, 6, 50, 100, 100, 4, 80, 100, 250])


def make(backend: str, dtype: str, own: bool, rows: int = ROWS) -> Any:
    """Environments of 5 minutes with a meal at noon, of one patient or of all."""
    names = [name for group in ("adult", "adolescent", "child") for name in patient_names(group)]
    patient = [names[i % len(names)] for i in range(rows)] if own else names[0]
    meals = [(722, 37)]
    return make_environment(
        "Glucose-v0", rows, backend=backend, dtype=dtype, patient=patient, meals=meals
    )


def at_noon(environment: Any) -> tuple[GlucoseState, Tensor]:
    """States of patients who have just eaten, and controls of which some are too large."""
    generator = np.random.default_rng(4)
    state, _ = environment.reset(0)
    rows = environment.num_envs
    values = torch.from_numpy(SCALE * generator.uniform(0.2, 1.5, (rows, 13)))
    values[::7, COMPARTMENTS.index("Gp")] = -1e-3  # stays where it is
    control = torch.from_numpy(generator.uniform((0, 0), (3, 40), (rows, 2)))
    control[::2, 1] = 0
    state = environment.system.with_values(state, values.to(environment.dtype))
    remembered = state.values.clone()
    remembered[:, len(COMPARTMENTS) + 4] = 720  # minutes since the start
    state = replace(state, values=remembered, interval=torch.full((rows,), NOON))
    return state, control.to(environment.dtype)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@kernels
def test_the_kernel_is_the_reference(backend: str, dtype: str, own: bool) -> None:
    ours, reference = make(backend, dtype, own), make("torch", dtype, own)
    state, control = at_noon(reference)
    for _ in range(3):
        assert float(reference.system.meal_ahead(state)[1][0]) in (0, 37)
        got, wanted = ours.system.advance(state, control), reference.system.advance(state, control)
        scale = wanted.values.abs().amax(0) + 1e-30
        error = ((got.values - wanted.values) / scale).abs().max()
        assert error <= (1e-12 if dtype == "float64" else 3e-6)
        state = wanted
    assert state.values[:, COMPARTMENTS.index("Q1")].min() > 0
    assert (state.values[:, len(COMPARTMENTS)] == 0).all()  # all 37 g are eaten


@kernels
def test_gradients_are_central_differences(backend: str) -> None:
    environment = make(backend, "float64", True, 3)
    state, control = at_noon(environment)
    system = environment.system
    full = state.values.clone()
    full[:, COMPARTMENTS.index("Gp")] = 260.0  # nothing is at zero, where rates are not smooth
    chosen = {name: system.parameters[name] for name in ("Vmx", "kabs", "ka2", "kp3")}
    inputs = (full, control.clamp(0.1, 2.0), *chosen.values())

    def final(values: Tensor, control: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(chosen, parameters, strict=True))
        moved = system.with_parameters(named, 3).advance(replace(state, values=values), control)
        return moved.values[:, COMPARTMENTS.index("Gs")] + moved.values[:, 2] / 100

    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    gradients = torch.autograd.grad(final(*leaves).sum(), leaves)
    for place, (tensor, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        columns = [()] if tensor.ndim == 1 else [(i,) for i in range(tensor.shape[1])]
        for column in columns[: len(COMPARTMENTS)]:
            step = 1e-5 * tensor[:, *column]
            low, high = tensor.clone(), tensor.clone()
            low[:, *column] -= step
            high[:, *column] += step
            fall, rise = (final(*inputs[:place], x, *inputs[place + 1 :]) for x in (low, high))
            expected = (rise - fall) / (2 * step)
            rounding = 1e-14 * rise / step
            error = (gradient[:, *column] - expected).abs()
            assert (error <= 1e-6 * expected.abs() + rounding).all(), (place, column)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
