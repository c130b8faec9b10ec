"""A checker of vector environments; Gymnasium's own `check_env` takes single ones only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from separatrix.envs.core.output_checks import OutputChecker, as_array, require

SEED = 7


def check_vector_env(
    environment_id: str,
    *,
    num_envs: int = 5,
    output: str = "numpy",
    autoreset_modes: Iterable[AutoresetMode] = tuple(AutoresetMode),
    max_episode_steps: int = 7,
    tolerance: float = 0.0,
    parameters: Mapping[str, Any] | None = None,
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
        parameters: Options with one value for each environment, arrays or lists.
        options: Options that all environments share.

    Raises:
        AssertionError: The contract is broken; the message says where and how.
    """
    each: dict[str, Any] = dict(parameters or {})
    options |= {"max_episode_steps": max_episode_steps}
    singles = [
        gymnasium.make(
            environment_id, **{name: values[i] for name, values in each.items()}, **options
        )
        for i in range(num_envs)
    ]
    for mode in autoreset_modes:
        batch, twin = (
            gymnasium.make_vec(
                environment_id, num_envs, autoreset_mode=mode, output=output, **each, **options
            )
            for _ in range(2)
        )
        _check_spaces(batch, singles[0], num_envs, mode)
        _check_seeds(batch, twin, max_episode_steps)
        for overwrite in (False, True):
            checker = OutputChecker(batch, Tensor if output == "torch" else np.ndarray, overwrite)
            _Comparison(batch, _Singles(singles, mode), checker, tolerance).run(max_episode_steps)
        batch.close()
        twin.close()


def _check_spaces(
    batch: VectorEnv[Any, Any, Any],
    single: gymnasium.Env[Any, Any],
    num_envs: int,
    mode: AutoresetMode,
) -> None:
    require(batch.num_envs == num_envs, f"num_envs: got {batch.num_envs}; made with {num_envs}")
    for found in (batch.metadata.get("autoreset_mode"), getattr(batch, "autoreset_mode", None)):
        require(
            found is mode, f"autoreset_mode: got {found!r} in metadata or attribute; not {mode}"
        )
    for name in ("observation_space", "action_space"):
        alone = getattr(single, name)
        of_one, of_all = getattr(batch, f"single_{name}"), getattr(batch, name)
        require(of_one == alone, f"single_{name}: got {of_one}; a single environment has {alone}")
        expected = batch_space(alone, num_envs)
        require(of_all == expected, f"{name}: got {of_all}; expected {expected}")


def _check_seeds(
    batch: VectorEnv[Any, Any, Any], twin: VectorEnv[Any, Any, Any], steps: int
) -> None:
    """Checks that a seed fixes a trajectory over resets, and that other seeds give others."""

    def observations(env: VectorEnv[Any, Any, Any], seed: int) -> list[np.ndarray]:
        env.action_space.seed(SEED)
        found = [env.reset(seed=seed)[0]]
        for _ in range(steps):
            values, _, terminations, truncations, _ = env.step(env.action_space.sample())
            found.append(values)
            ended = as_array(terminations) | as_array(truncations)
            if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and ended.any():
                found.append(env.reset(options={"reset_mask": ended})[0])
        return [as_array(values).copy() for values in (*found, env.reset()[0])]

    first = observations(batch, SEED)
    for env, name in ((twin, "another batch"), (batch, "the same batch, reset again,")):
        same = map(np.array_equal, first, observations(env, SEED))
        require(all(same), f"seed {SEED}: {name} has another trajectory")
    other = observations(twin, SEED + 1000)
    require(not np.array_equal(first[0], other[0]), "two seeds start at the same observations")
    require(not np.array_equal(first[0], first[-1]), "a reset without seed repeats the episode")


class _Row(NamedTuple):
    """What one environment hands out in a step; `info` holds only what is valid for it."""

    terminated: Any
    truncated: Any
    reward: Any
    observation: Any
    info: dict[str, Any]


class _Singles:
    """Single environments, stepped and reset by hand as an autoreset mode asks for."""

    def __init__(self, environments: list[gymnasium.Env[Any, Any]], mode: AutoresetMode) -> None:
        self.environments, self.mode = environments, mode
        self.ended = [False] * len(environments)
        self.observations: list[Any] = [None] * len(environments)
        self.rewards: list[list[float]] = [[] for _ in environments]

    def reset(self, i: int, seed: int | None = None) -> Any:
        self.observations[i], _ = self.environments[i].reset(seed=seed)
        self.ended[i], self.rewards[i] = False, []
        return self.observations[i]

    def step(self, i: int, action: Any, real: type) -> _Row:
        """Steps environment i; `real` is the type in which a batch adds rewards up."""
        if self.ended[i]:
            return _Row(False, False, 0.0, self.reset(i), {})
        observation, reward, terminated, truncated, info = self.environments[i].step(action)
        self.observations[i] = observation
        self.rewards[i].append(float(reward))
        if not (terminated or truncated):
            return _Row(False, False, reward, observation, info)
        self.ended[i] = True
        total = real(0)
        for value in self.rewards[i]:
            total = real(total + real(value))
        statistics = {"episode_return": total, "episode_length": len(self.rewards[i])}
        if self.mode is AutoresetMode.SAME_STEP:
            info = {"final_obs": observation, "final_info": info | statistics}
            return _Row(terminated, truncated, reward, self.reset(i), info)
        return _Row(terminated, truncated, reward, observation, info | statistics)


class _Comparison:
    """A batch beside single environments, through episodes that end at different times."""

    def __init__(
        self,
        batch: VectorEnv[Any, Any, Any],
        singles: _Singles,
        checker: OutputChecker,
        tolerance: float,
    ) -> None:
        self.batch, self.singles = batch, singles
        self.checker, self.tolerance = checker, tolerance
        self.staggered = False

    def run(self, horizon: int) -> None:
        number = self.batch.num_envs
        self.batch.action_space.seed(SEED)
        self.reset(np.ones(number, bool), seed=SEED)
        for row in range(number):  # one after the other, so that their episodes end apart
            self.step()
            self.reset(np.arange(number) == row)
        for _ in range(3 * horizon):
            self.step()
        require(self.staggered, "all episodes ended together: nothing to compare")
        self.reset(np.ones(number, bool))
        for _ in range(horizon + 1):
            self.step()
        self.checker.check_memory()

    def reset(self, rows: np.ndarray, seed: int | None = None) -> None:
        """Resets some environments; all of them as users do, without a mask."""
        options = None if rows.all() else {"reset_mask": rows.copy()}
        observations, infos = self.batch.reset(seed=seed, options=options)
        self.checker.receive(observations, infos)
        for i in np.flatnonzero(rows).tolist():
            self.singles.reset(i, None if seed is None else seed + i)
        for i, expected in enumerate(self.singles.observations):
            self.compare(f"reset: environment {i}", as_array(observations)[i], expected)
        self.checker.keep(observations=observations, infos=infos)

    def step(self) -> None:
        actions = self.batch.action_space.sample()
        given = actions.copy()
        if self.checker.kind is Tensor:
            given = torch.from_numpy(given)
        observations, rewards, terminations, truncations, infos = self.batch.step(given)
        named = {"terminations": terminations, "truncations": truncations, "rewards": rewards}
        self.checker.receive(observations, infos, **named)
        self.checker.require(np.array_equal(as_array(given), actions), "actions were overwritten")
        real = as_array(rewards).dtype.type
        for i, action in enumerate(actions):
            row = [as_array(values)[i] for values in (*named.values(), observations)]
            alone = self.singles.step(i, action, real)
            for name, got, expected in zip(
                _Row._fields, [*row, _valid(infos, i)], alone, strict=True
            ):
                self.compare(f"environment {i}: {name}", got, expected)
        ended = as_array(terminations) | as_array(truncations)
        self.staggered |= bool(ended.any() and not ended.all())
        self.checker.keep(observations=observations, infos=infos, actions=given, **named)
        if self.singles.mode is AutoresetMode.DISABLED and ended.any():
            self.check_refusal(actions)
            self.reset(ended)

    def compare(self, name: str, got: Any, expected: Any) -> None:
        """Checks that a value of the batch is that of a single environment."""
        if isinstance(expected, dict):
            keys = f"{name}: got {sorted(got)}; a single environment has {sorted(expected)}"
            self.checker.require(got.keys() == expected.keys(), keys)
            for key in expected:
                self.compare(f"{name}[{key!r}]", got[key], expected[key])
        else:
            bound = self.tolerance
            same = np.array_equal(got, expected)
            same = same or (bound > 0 and np.allclose(got, expected, rtol=bound, atol=bound))
            if not same:  # the message is long to write
                message = f"{name}: got {got}; a single environment has {expected}"
                self.checker.require(False, message)

    def check_refusal(self, actions: Any) -> None:
        """Checks that an ended environment is not stepped (DISABLED)."""
        try:
            self.batch.step(actions)
        except Exception:
            return
        self.checker.require(False, "an ended environment was stepped without an error")


def _valid(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """Returns the infos of one environment: those whose masks are set, without the masks."""
    return {
        key: _valid(value, i) if isinstance(value, dict) else as_array(value)[i]
        for key, value in infos.items()
        if not key.startswith("_") and as_array(infos[f"_{key}"])[i]
    }
