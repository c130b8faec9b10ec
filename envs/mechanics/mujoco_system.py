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

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from separatrix.envs.core.registration import suggest
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import INITIAL_STATE, Stream
from separatrix.envs.core.system import System

BACKENDS = ("auto", "mujoco")
KEPT = mujoco.mjtState.mjSTATE_FULLPHYSICS | mujoco.mjtState.mjSTATE_WARMSTART
"""What of MuJoCo's data determines a step, beside the control."""


@dataclass(frozen=True)
class MujocoState(State):
    """State of a MuJoCo system.

    Attributes:
        physics: Time, positions, velocities, activations if there are any, and the warm start.
    """

    physics: Float64[Tensor, "batch physics"]


class MujocoSystem(System):
    """A model of MuJoCo.

    A system works in memory of its own: two threads must not step it at once.

    Args:
        path: The model, an XML file.
        limits: Safe box: largest magnitudes of the positions, then of the velocities.
        frame_skip: Steps of MuJoCo in a control interval.
        reset_noise_scale: Largest deviation of positions and velocities from the model's own
            initial ones, at rest, at the start of an episode; they are uniform.
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
        path: Path,
        limits: Sequence[float],
        *,
        frame_skip: int,
        reset_noise_scale: float,
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
        self.num_envs, self.device, self.dtype = num_envs, device, dtype
        self.frame_skip, self.reset_noise_scale = frame_skip, reset_noise_scale
        self.model = mujoco.MjModel.from_xml_path(str(path))
        # A diverged state is to be seen, not silently replaced by the initial one.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self._data = mujoco.MjData(self.model)
        self.control_interval = self.model.opt.timestep * frame_skip
        self.limits = np.array(limits)
        # Time and warm start need only be finite.
        size = mujoco.mj_stateSize(self.model, KEPT)
        self._box = np.full((1, size), np.finfo(np.float64).max)
        self.coordinates(self._box)[:] = self.limits

    def coordinates(self, physics: Float64[np.ndarray, "batch physics"]) -> np.ndarray:
        """Returns positions and velocities, (batch, coordinate), which share the memory."""
        return physics[:, 1 : 1 + len(self.limits)]  # behind the time

    def initial_state(self, stream: Stream) -> MujocoState:
        """Draws states around the model's initial one."""
        uniform, stream = stream.uniform(len(self.limits), torch.float64, INITIAL_STATE)
        start = np.empty(self._box.shape[1])
        mujoco.mj_getState(self.model, mujoco.MjData(self.model), start, KEPT)
        physics = np.tile(start, (len(uniform), 1))
        self.coordinates(physics)[:] += self.reset_noise_scale * (2 * uniform.numpy() - 1)
        return MujocoState(stream, torch.zeros_like(stream.seed), torch.from_numpy(physics))

    def advance(self, state: MujocoState, control: Float[Tensor, "batch control"]) -> MujocoState:
        """Advances all environments by one control interval under held controls.

        What is outside the safe box, or gets a control that is not finite, becomes NaN.

        Raises:
            ValueError: A gradient is asked for.
        """
        physics = self.advance_arrays(*as_arrays(state.physics, control))
        return replace(state, physics=torch.from_numpy(physics), interval=state.interval + 1)

    def advance_arrays(
        self, physics: Float64[np.ndarray, "batch physics"], control: Float[np.ndarray, "batch _"]
    ) -> Float64[np.ndarray, "batch physics"]:
        """Does in numpy what `advance` does."""
        model, data = self.model, self._data
        advanced = np.full(physics.shape, np.nan)
        sound = self.inside_arrays(physics) & np.isfinite(control).all(-1)
        for row in sound.nonzero()[0].tolist():
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
        """Returns itself: all environments have the same parameters."""
        return self


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
