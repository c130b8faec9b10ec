"""Gradients of PDEs: right, sparing of memory, and each row's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment


def environment_of(num_envs: int, dtype: str = "float64", **options: Any) -> Any:
    options = {"backend": "torch", **options}
    return make_environment("KuramotoSivashinsky-v0", num_envs, dtype=dtype, **options)


def rollout(environment: Any, state: Any, actions: Tensor) -> Tensor:
    """Sum of all rewards and of the squares of the last observations, of each environment."""
    total = torch.zeros(len(actions[0]), dtype=actions.dtype)
    for action in actions:
        result = environment.step(state, action)
        state, total = result.state, total + result.reward
    return total + result.observation.square().sum(1)


@pytest.mark.parametrize("options", [{}, {"task": "reduce_power", "length": [20.0, 22.0, 25.0]}])
def test_gradients_are_finite_differences(options: dict[str, Any]) -> None:
    environment = environment_of(3, points=32, **options)
    state, _ = environment.reset(4)
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    actions, field = 0.3 * draw(6, 3, 4), state.field
    a, f = actions.clone().requires_grad_(), field.clone().requires_grad_()
    total = rollout(environment, replace(state, field=f), a).sum()
    by_action, by_field = torch.autograd.grad(total, (a, f))
    for _ in range(3):
        da, df = draw(*actions.shape), draw(*field.shape)
        ahead, behind = (
            rollout(environment, replace(state, field=field + h * df), actions + h * da).sum()
            for h in (1e-5, -1e-5)
        )
        expected = (ahead - behind) / 2e-5
        ours = (by_action * da).sum() + (by_field * df).sum()
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-8)


def test_a_long_rollout_remembers_one_field_a_step() -> None:
    """Through 200 control steps of 64 environments, of the gigabyte that may be asked for."""
    environment = environment_of(64, "float32")
    state, _ = environment.reset(0)
    actions = torch.zeros((200, 64, 4), requires_grad=True)
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        total = rollout(environment, state, actions).sum()
    fields, field = 200 * 64, 64 * 4
    assert sum(kept.values()) < 10 * fields * field < 2**30
    assert total.requires_grad


def test_a_row_that_is_lost_spoils_no_other() -> None:
    environment = environment_of(4, points=32)
    state, _ = environment.reset(0)
    for lost in (torch.nan, 1e3):
        field = state.field.clone()
        field[2] = lost
        found = []
        for start in (state.field, field):
            a = torch.full((5, 4, 4), 0.1, dtype=torch.float64, requires_grad=True)
            f = start.clone().requires_grad_()
            total = rollout(environment, replace(state, field=f), a)
            gradients = torch.autograd.grad(total.nansum(), (a, f))
            found.append((gradients[0].transpose(0, 1), gradients[1]))
        others = torch.tensor([0, 1, 3])
        for expected, ours in zip(*found, strict=True):
            assert torch.equal(ours[others], expected[others])
            assert ours[others].isfinite().all() and (ours[others] != 0).any()
