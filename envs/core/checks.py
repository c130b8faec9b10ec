"""A checker of vector environments, which Gymnasium lacks (its `check_env` takes single ones)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

SEED = 7
SCRIBBLE = {"f": -12345.0, "b": True, "i": 12345, "u": 123}
"""What is written over the arrays that an environment handed out, by kind of number."""


def check_vector_env(
    environment_id: str,
    *,
    num_envs: int = 5,
    output: str = "numpy",
    autoreset_modes: Iterable[AutoresetMode] = tuple(AutoresetMode),
    max_episode_steps: int = 7,
    tolerance: float = 0.0,
    parameters: Mapping[str, Sequence[Any]] | None = None,
    **options: Any,
) -> None:
    """Checks that a registered id keeps the contract of vector environments.

    That is: spaces, types, shapes and dtypes; dense infos with masks; fresh memory in whatever is
    handed out; seeds that fix a trajectory, and later resets that continue it; and, in every
    autoreset mode, with episodes that end at different times, a batch that does what single
    environments do that are stepped and reset by hand.

    Args:
        environment_id: Id with both entry points registered.
        num_envs: Size of the batch, at least 2.
        output: "numpy" or "torch".
        autoreset_modes: The modes to check.
        max_episode_steps: Steps of an episode.
        tolerance: Largest deviation from single environments, absolute and relative; 0 asks for
            equality bit for bit.
        parameters: Options of which every environment has its own value.
        options: Options that all environments share.

    Raises:
        AssertionError: The contract is broken; the message says where and how.
    """
    each = dict(parameters or {})

    def make(mode: AutoresetMode) -> VectorEnv[Any, Any, Any]:
        arguments = {"max_episode_steps": max_episode_steps, "autoreset_mode": mode}
        arguments |= {"output": output, **each, **options}
        return gymnasium.make_vec(environment_id, num_envs, **arguments)

    singles = [
        gymnasium.make(
            environment_id,
            max_episode_steps=max_episode_steps,
            **{name: values[i] for name, values in each.items()},
            **options,
        )
        for i in range(num_envs)
    ]
    for mode in autoreset_modes:
        batch, twin = make(mode), make(mode)
        _check_spaces(batch, singles[0], num_envs, mode)
        _check_seeds(batch, twin, max_episode_steps)
        for scribble in (False, True):
            beside = _Singles(singles, mode)
            _Comparison(batch, beside, output, tolerance, scribble).run(max_episode_steps)
        batch.close()
        twin.close()


def _require(condition: Any, message: str) -> None:
    """Asserts, also where Python leaves assertions out."""
    if not condition:
        raise AssertionError(message)


def _check_spaces(
    batch: VectorEnv[Any, Any, Any],
    single: gymnasium.Env[Any, Any],
    num_envs: int,
    mode: AutoresetMode,
) -> None:
    _require(batch.num_envs == num_envs, f"num_envs: got {batch.num_envs}, made with {num_envs}")
    for found in (batch.metadata.get("autoreset_mode"), getattr(batch, "autoreset_mode", None)):
        _require(
            found is mode, f"autoreset_mode: got {found!r} in metadata or attribute, not {mode}"
        )
    for name in ("observation_space", "action_space"):
        alone = getattr(single, name)
        of_one, of_all = getattr(batch, f"single_{name}"), getattr(batch, name)
        _require(of_one == alone, f"single_{name}: got {of_one}; a single environment has {alone}")
        expected = batch_space(alone, num_envs)
        _require(of_all == expected, f"{name}: got {of_all}, not the batched {expected}")


def _check_seeds(
    batch: VectorEnv[Any, Any, Any], twin: VectorEnv[Any, Any, Any], steps: int
) -> None:
    """Checks that a seed fixes a trajectory over resets, and that other seeds give others."""

    def observations(env: VectorEnv[Any, Any, Any], seed: int) -> list[np.ndarray]:
        env.action_space.seed(SEED)
        found = [_array(env.reset(seed=seed)[0]).copy()]
        found += [_array(env.step(env.action_space.sample())[0]).copy() for _ in range(steps - 1)]
        return [*found, _array(env.reset()[0]).copy()]

    first = observations(batch, SEED)
    for other, name in ((twin, "another batch"), (batch, "the same batch, reset again")):
        same = [np.array_equal(a, b) for a, b in zip(first, observations(other, SEED), strict=True)]
        _require(all(same), f"seed {SEED}: {name} leaves the trajectory after {sum(same)} steps")
    _require(
        not np.array_equal(first[0], observations(twin, SEED + 1000)[0]),
        "two seeds start at the same observations",
    )
    _require(not np.array_equal(first[0], first[-1]), "a reset without seed repeats the episode")


class _Row(NamedTuple):
    """What one environment hands out in a step; `info` holds only what is valid for it."""

    observation: Any
    reward: Any
    terminated: Any
    truncated: Any
    info: dict[str, Any]


class _Singles:
    """Single environments, stepped and reset by hand as an autoreset mode asks for."""

    def __init__(self, environments: list[gymnasium.Env[Any, Any]], mode: AutoresetMode) -> None:
        self.environments, self.mode = environments, mode
        self.ended = np.zeros(len(environments), bool)
        self.observations: list[Any] = [None] * len(environments)
        self.rewards: list[list[float]] = [[] for _ in environments]

    def reset(self, seed: int | None, rows: np.ndarray) -> list[Any]:
        for i in np.flatnonzero(rows):
            self._restart(i, None if seed is None else seed + int(i))
        return list(self.observations)

    def step(self, actions: np.ndarray, real: type) -> list[_Row]:
        """Steps all environments; `real` is the type in which a batch adds rewards up."""
        return [self._step(i, action, real) for i, action in enumerate(actions)]

    def _step(self, i: int, action: np.ndarray, real: type) -> _Row:
        if self.ended[i]:
            return _Row(self._restart(i), 0.0, False, False, {})
        observation, reward, *flags, info = self.environments[i].step(action)
        self.observations[i] = observation
        self.rewards[i].append(float(reward))
        if not any(flags):
            return _Row(observation, reward, *flags, info)
        self.ended[i] = True
        total = real(0)
        for value in self.rewards[i]:
            total = real(total + real(value))
        statistics = {"episode_return": total, "episode_length": len(self.rewards[i])}
        if self.mode is AutoresetMode.SAME_STEP:
            info = {"final_obs": observation, "final_info": info | statistics}
            return _Row(self._restart(i), reward, *flags, info)
        return _Row(observation, reward, *flags, info | statistics)

    def _restart(self, i: int, seed: int | None = None) -> Any:
        self.observations[i], _ = self.environments[i].reset(seed=seed)
        self.ended[i], self.rewards[i] = False, []
        return self.observations[i]


class _Comparison:
    """A batch beside single environments, driven through episodes that end at different times.

    With `scribble`, all that the batch hands out is overwritten once it was compared: nothing of
    it may reach back into the batch.
    """

    def __init__(
        self,
        batch: VectorEnv[Any, Any, Any],
        singles: _Singles,
        output: str,
        tolerance: float,
        scribble: bool,
    ) -> None:
        self.batch, self.singles, self.mode = batch, singles, singles.mode
        self.kind: type = Tensor if output == "torch" else np.ndarray
        self.tolerance, self.scribble = tolerance, scribble
        self.handed: list[tuple[int, str, Any, np.ndarray]] = []
        self.calls, self.staggered = 0, False

    def run(self, horizon: int) -> None:
        """Compares the batch with the single environments over some episodes of this length."""
        number = self.batch.num_envs
        self.batch.action_space.seed(SEED)
        self.reset(np.ones(number, bool), seed=SEED)
        for row in range(number):  # one after the other, so that their episodes end apart
            self.step()
            self.reset(np.arange(number) == row)
        for _ in range(3 * horizon):
            self.step()
        _require(self.staggered, "all episodes ended together: nothing to compare")
        self.reset(np.ones(number, bool))
        for _ in range(horizon + 1):
            self.step()
        self.check_memory()

    def reset(self, rows: np.ndarray, seed: int | None = None) -> None:
        """Resets some environments; all of them as users do, without a mask."""
        observations, infos = self.batch.reset(
            seed=seed, options=None if rows.all() else {"reset_mask": rows.copy()}
        )
        self.calls += 1
        self.check_observations("observation", observations)
        self.check_infos(infos)
        for i, expected in enumerate(self.singles.reset(seed, rows)):
            self.check_equal(_array(observations)[i], expected, f"reset: environment {i}")
        self.keep(reset_observations=observations, reset_infos=infos)

    def step(self) -> None:
        """Steps all environments, and compares all that is handed out with single ones."""
        actions = self.batch.action_space.sample()
        given = torch.as_tensor(actions.copy()) if self.kind is Tensor else actions.copy()
        observations, rewards, terminations, truncations, infos = self.batch.step(given)
        self.calls += 1
        self.require(np.array_equal(_array(given), actions), "the actions were overwritten")
        self.check_observations("observation", observations)
        self.check_array("rewards", rewards, "f", ())
        self.check_array("terminations", terminations, "b", ())
        self.check_array("truncations", truncations, "b", ())
        self.check_infos(infos)
        real = _array(rewards).dtype.type
        for i, alone in enumerate(self.singles.step(actions, real)):
            found = (observations, rewards, terminations, truncations)
            row = _Row(*(_array(values)[i] for values in found), info=_valid(infos, i))
            for name, got, expected in zip(_Row._fields, row, alone, strict=True):
                self.check_equal(got, expected, f"environment {i}: {name}")
        ended = _array(terminations) | _array(truncations)
        self.staggered |= bool(ended.any() and not ended.all())
        self.keep(
            observations=observations,
            rewards=rewards,
            terminations=terminations,
            truncations=truncations,
            infos=infos,
            actions=given,
        )
        if self.mode is AutoresetMode.DISABLED and ended.any():
            self.check_refusal(actions)
            self.reset(ended)

    def require(self, condition: Any, message: str) -> None:
        """Asserts, and says where in the comparison."""
        when = " (all that was handed out before had been overwritten)" if self.scribble else ""
        _require(condition, f"{self.mode.value}, call {self.calls}{when}: {message}")

    def check_array(self, name: str, value: Any, kinds: str, shape: tuple[int, ...] | None) -> None:
        """Checks type, kind of numbers and shape, but for the leading axis."""
        self.require(
            isinstance(value, self.kind), f"{name}: got {type(value)}, not {self.kind.__name__}"
        )
        array, expected = _array(value), (self.batch.num_envs, *(shape or ()))
        got = array.shape if shape is not None else array.shape[:1]
        self.require(
            array.dtype.kind in kinds and got == expected,
            f"{name}: got {array.dtype} of shape {array.shape}; expected {expected}, kind {kinds}",
        )
        fresh = not value.requires_grad if self.kind is Tensor else value.flags.writeable
        self.require(fresh, f"{name}: is read-only, or carries a gradient")

    def check_observations(self, name: str, values: Any) -> None:
        """Checks that observations lie in their space."""
        space = self.batch.observation_space
        self.check_array(name, values, "fiu", self.batch.single_observation_space.shape)
        array = _array(values)
        self.require(array.dtype == space.dtype, f"{name}: got {array.dtype}, not {space.dtype}")
        self.require(space.contains(array), f"{name}: outside of the space: {array.tolist()}")

    def check_infos(self, infos: Mapping[str, Any], inside: str = "infos") -> None:
        """Checks that infos are dense arrays, each with a mask of the valid rows."""
        for key, value in infos.items():
            name = f"{inside}[{key!r}]"
            if key.startswith("_"):
                self.require(key[1:] in infos, f"{name}: is the mask of nothing")
                self.check_array(name, value, "b", ())
                continue
            self.require(f"_{key}" in infos, f"{name}: has no mask '_{key}'")
            if isinstance(value, dict):
                self.check_infos(value, name)
            elif key == "final_obs":
                self.check_observations(name, value)
            else:
                self.check_array(name, value, "fbiu", None)

    def check_equal(self, got: Any, alone: Any, name: str) -> None:
        """Checks that a batch's value is that of a single environment."""
        if isinstance(alone, dict):
            self.require(got.keys() == alone.keys(), f"{name}: got {set(got)}, not {set(alone)}")
            for key in alone:
                self.check_equal(got[key], alone[key], f"{name}[{key!r}]")
            return
        if self.tolerance:
            same = np.allclose(got, alone, rtol=self.tolerance, atol=self.tolerance)
        else:
            same = np.array_equal(got, alone)
        self.require(same, f"{name}: got {got}; a single environment has {alone}")

    def check_refusal(self, actions: Any) -> None:
        """Checks that an ended environment is not stepped."""
        try:
            self.batch.step(actions)
        except Exception:
            return
        self.require(False, "an ended environment was stepped without an error")

    def keep(self, **values: Any) -> None:
        """Remembers what was handed out, overwritten if asked for."""
        for name, array in _leaves(values):
            if self.scribble:
                array[...] = SCRIBBLE[_array(array).dtype.kind]
            self.handed.append((self.calls, name, array, _array(array).copy()))

    def check_memory(self) -> None:
        """Checks that nothing handed out was changed, or shares memory with another call's."""
        for call, name, array, before in self.handed:
            self.require(
                np.array_equal(_array(array), before), f"{name} of call {call} changed later on"
            )
        spans = sorted((*_span(array), call, name) for call, name, array, _ in self.handed)
        last_end, last_call, last_name = 0, 0, ""
        for start, end, call, name in spans:
            self.require(
                start >= last_end or call == last_call,
                f"{name} of call {call} shares memory with {last_name} of call {last_call}",
            )
            if end > last_end:
                last_end, last_call, last_name = end, call, name


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _valid(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """Returns the infos of one environment: those whose masks are set, without the masks."""
    return {
        key: _valid(value, i) if isinstance(value, dict) else _array(value)[i]
        for key, value in infos.items()
        if not key.startswith("_") and _array(infos[f"_{key}"])[i]
    }


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
