"""Bodies that MuJoCo steps: E. Todorov, T. Erez, Y. Tassa, Proc. IROS (2012) 5026.

A step of MuJoCo is a function of its full physics state (time, positions, velocities, activations)
and of the accelerations from which its constraint solver starts, the warm start: the solver stops
at a tolerance, so that another start gives slightly different forces at contacts and joint limits.
Both are the state here, and a step is a pure function of it, with the numbers of `mj_step` called
again and again, bit for bit. `mujoco.rollout` steps batches, but does not return the warm start.

Rows are stepped one after the other, on the CPU and in float64, whatever the dtype of the
environment. MuJoCo gives no derivatives.
"""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from separatrix.envs.core.registration import suggest
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.system import System

BACKENDS = ("auto", "mujoco")
KEPT = mujoco.mjtState.mjSTATE_FULLPHYSICS | mujoco.mjtState.mjSTATE_WARMSTART
"""What of MuJoCo's data determines a step, beside the control."""

Deviation = Callable[[Stream], tuple[Float64[Tensor, "batch coordinate"], Stream]]
"""Draws what is added to the model's own positions and velocities at the start of episodes."""


@dataclass(frozen=True)
class MujocoState(State):
    """State of a MuJoCo system.

    Attributes:
        physics: Time, positions, velocities, activations if there are any, and the warm start.
    """

    physics: Float64[Tensor, "batch physics"]


class _Body(NamedTuple):
    """A model, the memory in which it is stepped, and the state at its start."""

    model: mujoco.MjModel
    data: mujoco.MjData
    start: Float64[np.ndarray, " physics"]

    @classmethod
    def of(cls, model: mujoco.MjModel) -> Self:
        # A diverged state is to be seen, not silently replaced by the initial one.
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        data, start = mujoco.MjData(model), np.empty(mujoco.mj_stateSize(model, KEPT))
        mujoco.mj_getState(model, data, start, KEPT)
        return cls(model, data, start)


class MujocoSystem(System):
    """Bodies of MuJoCo: one model for all environments, or one for each of them.

    A system and those selected from it work in memory of their own: two threads must not step them
    at once.

    Args:
        models: One compiled model, or one for each environment, all with the same coordinates,
            motors and time step; the same object may stand many times, and is stepped in the same
            memory then. MuJoCo's automatic reset is switched off in them.
        limits: Safe box: largest magnitudes of the positions, then of the velocities.
        deviation: Draws deviations of the positions and velocities from the model's own initial
            ones, at rest, at the start of an episode.
        frame_skip: Steps of MuJoCo in a control interval.
        num_envs: Size of the batch.
        device: Only the CPU.
        dtype: Type of the real numbers of observations and rewards.
        backend: "auto" or "mujoco".

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    differentiable = False

    def __init__(
        self,
        models: Sequence[mujoco.MjModel],
        limits: Sequence[float],
        deviation: Deviation,
        *,
        frame_skip: int,
        num_envs: int,
        device: torch.device,
        dtype: torch.dtype,
        backend: str = "auto",
    ) -> None:
        if not isinstance(backend, str) or backend not in BACKENDS:
            got = reprlib.repr(backend)
            raise ValueError(f"unknown backend {got}; {suggest(backend, BACKENDS)}")
        if device.type != "cpu":
            raise ValueError(f"device: got {str(device)!r}; MuJoCo runs on the CPU; allowed: 'cpu'")
        if len(models) not in (1, num_envs):
            allowed = " or ".join(map(str, sorted({1, num_envs})))
            raise ValueError(f"models: got {len(models)}; allowed: {allowed}")
        shapes = {(m.nq, m.nv, m.na, m.nu, m.opt.timestep) for m in models}
        if len(shapes) > 1:
            raise ValueError(
                "models: got different numbers (positions, velocities, activations, controls, time "
                f"step): {sorted(shapes)}; allowed: the same for all environments"
            )
        self.num_envs, self.device, self.dtype = num_envs, device, dtype
        self.frame_skip, self._deviation = frame_skip, deviation
        bodies = {id(model): _Body.of(model) for model in models}
        self._bodies = [bodies[id(model)] for model in models]
        self.control_interval = models[0].opt.timestep * frame_skip
        self.limits = np.array(limits)
        # Time and warm start need only be finite.
        self._box = np.full((1, len(self._bodies[0].start)), np.finfo(np.float64).max)
        self.coordinates(self._box)[:] = self.limits

    @property
    def models(self) -> list[mujoco.MjModel]:
        """The models: one for all environments, or one for each of them."""
        return [body.model for body in self._bodies]

    def model_of(self, row: int) -> mujoco.MjModel:
        """Returns the model of one environment."""
        return self._bodies[row if len(self._bodies) > 1 else 0].model

    def coordinates(self, physics: Float64[np.ndarray, "batch physics"]) -> np.ndarray:
        """Returns positions and velocities, (batch, coordinate), which share the memory."""
        return physics[:, 1 : 1 + len(self.limits)]  # behind the time

    def initial_state(self, stream: Stream) -> MujocoState:
        """Draws states around the models' initial ones."""
        deviation, stream = self._deviation(stream)
        physics = np.stack([body.start for body in self._bodies_of(len(deviation))])
        self.coordinates(physics)[:] += deviation.numpy()
        return MujocoState(stream, torch.zeros_like(stream.seed), torch.from_numpy(physics))

    def advance(self, state: MujocoState, control: Float[Tensor, "batch control"]) -> MujocoState:
        """Advances all environments by one control interval under held controls.

        What is outside the safe box, or gets a control that is not finite, becomes NaN.

        Raises:
            ValueError: A gradient is asked for, or the batch has not a row for each model.
        """
        physics = self.advance_arrays(*as_arrays(state.physics, control))
        return replace(state, physics=torch.from_numpy(physics), interval=state.interval + 1)

    def advance_arrays(
        self, physics: Float64[np.ndarray, "batch physics"], control: Float[np.ndarray, "batch _"]
    ) -> Float64[np.ndarray, "batch physics"]:
        """Does in numpy what `advance` does."""
        bodies = self._bodies_of(len(physics))
        advanced = np.full(physics.shape, np.nan)
        sound = self.inside_arrays(physics) & np.isfinite(control).all(-1)
        for row in sound.nonzero()[0].tolist():
            model, data, _ = bodies[row]
            mujoco.mj_setState(model, data, physics[row], KEPT)
            data.ctrl[:] = control[row]
            mujoco.mj_step(model, data, self.frame_skip)
            mujoco.mj_getState(model, data, advanced[row], KEPT)
        return advanced

    def inside(self, state: MujocoState) -> Bool[Tensor, " batch"]:
        """Tells which states are finite and within the safe box."""
        return torch.from_numpy(self.inside_arrays(state.physics.detach().numpy()))

    def inside_arrays(
        self, physics: Float64[np.ndarray, "batch physics"]
    ) -> Bool[np.ndarray, " batch"]:
        """Does in numpy what `inside` does."""
        return (np.abs(physics) <= self._box).all(-1)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the system of some environments only; itself if they share a model."""
        if len(self._bodies) == 1:
            return self
        selected = copy.copy(self)
        selected._bodies = [self._bodies[row] for row in rows.tolist()]
        selected.num_envs = len(selected._bodies)
        return selected

    def _bodies_of(self, batch: int) -> list[_Body]:
        """Returns a body for each row of a batch."""
        if len(self._bodies) == 1:
            return self._bodies * batch
        if batch != len(self._bodies):
            allowed = f"{len(self._bodies)} rows, one for each model"
            raise ValueError(f"batch: got {batch} rows; allowed: {allowed}")
        return self._bodies


def as_arrays(*tensors: Float[Tensor, "batch _"]) -> list[np.ndarray]:
    """Returns tensors as arrays, contiguous as MuJoCo wants them.

    Raises:
        ValueError: A gradient is asked for.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        raise ValueError(
            "MuJoCo has no derivatives: got a state or an action that requires a gradient; "
            "allowed: those that do not, or a step under torch.no_grad()"
        )
    return [tensor.detach().contiguous().numpy() for tensor in tensors]
