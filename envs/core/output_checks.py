"""Checks of what a vector environment hands out: its form call by call, and its memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from torch import Tensor

OVERWRITTEN = {"f": -12345.0, "b": True, "i": 123, "u": 123}
"""What is written over arrays that were handed out, by kind of number."""


def require(condition: Any, message: str) -> None:
    """Asserts, also where Python leaves assertions out."""
    if not condition:
        raise AssertionError(message)


def as_array(value: Any) -> np.ndarray:
    """Returns a tensor or array as an array."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


class OutputChecker:
    """Receives what a batch hands out, call after call.

    Args:
        batch: The vector environment.
        kind: Type of its arrays.
        overwrite: Whether to write over everything once it was looked at: nothing of it may reach
            back into the batch.
    """

    def __init__(self, batch: VectorEnv[Any, Any, Any], kind: type, overwrite: bool) -> None:
        self.batch, self.kind, self.overwrite = batch, kind, overwrite
        self.calls = 0
        self._kept: list[tuple[int, str, Any, np.ndarray]] = []

    def require(self, condition: Any, message: str) -> None:
        """Asserts, and tells the call."""
        if not condition:
            earlier = ", all handed out before it overwritten" if self.overwrite else ""
            mode = self.batch.metadata["autoreset_mode"].value
            raise AssertionError(f"{mode}, call {self.calls}{earlier}: {message}")

    def receive(self, observations: Any, infos: Any, **signals: Any) -> None:
        """Checks types, kinds of numbers and shapes; `signals` are rewards and flags."""
        self.calls += 1
        self._check_observations("observations", observations)
        for name, values in signals.items():
            self._check_array(name, values, "f" if name == "rewards" else "b", ())
        self._check_infos("infos", infos)

    def keep(self, **values: Any) -> None:
        """Remembers what was handed out, after writing over it if asked to."""
        for name, array in _leaves(values):
            if self.overwrite:
                array[...] = OVERWRITTEN[as_array(array).dtype.kind]
            self._kept.append((self.calls, name, array, as_array(array).copy()))

    def check_memory(self) -> None:
        """Checks that nothing handed out was changed, or shares memory with another call's."""
        for call, name, array, before in self._kept:
            same = np.array_equal(as_array(array), before)
            self.require(same, f"{name} of call {call} changed after it was handed out")
        last_end, last_call, last_name = 0, 0, ""
        for start, end, call, name in sorted(
            (*_span(array), call, name) for call, name, array, _ in self._kept
        ):
            self.require(
                start >= last_end or call == last_call,
                f"{name} of call {call} shares memory with {last_name} of call {last_call}",
            )
            if end > last_end:
                last_end, last_call, last_name = end, call, name

    def _check_array(
        self, name: str, value: Any, kinds: str, shape: tuple[int, ...] | None
    ) -> None:
        """Checks one array; `shape` is that of one environment, None for any."""
        self.require(
            isinstance(value, self.kind), f"{name}: got {type(value)}, not {self.kind.__name__}"
        )
        array, batch = as_array(value), self.batch.num_envs
        fits = array.shape[:1] == (batch,) and (shape is None or array.shape[1:] == shape)
        self.require(
            array.dtype.kind in kinds and fits,
            f"{name}: got {array.dtype} of shape {array.shape}; expected one of kind {kinds!r} and "
            f"shape {shape or '()'} for each of {batch} environments",
        )
        free = not value.requires_grad if isinstance(value, Tensor) else value.flags.writeable
        self.require(free, f"{name}: is read-only, or carries a gradient")

    def _check_observations(self, name: str, values: Any) -> None:
        space = self.batch.observation_space
        self._check_array(name, values, "fiu", self.batch.single_observation_space.shape)
        array = as_array(values)
        self.require(array.dtype == space.dtype, f"{name}: got {array.dtype}, not {space.dtype}")
        self.require(space.contains(array), f"{name}: outside of the space: {array.tolist()}")

    def _check_infos(self, inside: str, infos: Any) -> None:
        """Checks that infos are dense arrays, each with a mask of the rows that are valid."""
        self.require(isinstance(infos, dict), f"{inside}: got {type(infos)}, not a dict")
        for key, value in infos.items():
            name = f"{inside}[{key!r}]"
            if key.startswith("_"):
                self.require(key[1:] in infos, f"{name}: is the mask of nothing")
                self._check_array(name, value, "b", ())
                continue
            self.require(f"_{key}" in infos, f"{name}: has no mask '_{key}'")
            if isinstance(value, dict):
                self._check_infos(name, value)
            elif key == "final_obs":
                self._check_observations(name, value)
            else:
                self._check_array(name, value, "fbiu", None)


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{key}[{name!r}]", leaf) for name, leaf in _leaves(value))
        else:
            yield key, value


def _span(array: Any) -> tuple[int, int]:
    """Returns the first address of an array and the one past its last."""
    if not isinstance(array, Tensor):
        return np.lib.array_utils.byte_bounds(array)
    steps = sum((n - 1) * stride for n, stride in zip(array.shape, array.stride(), strict=True))
    start = array.data_ptr()
    return start, start + array.element_size() * (steps + 1)
