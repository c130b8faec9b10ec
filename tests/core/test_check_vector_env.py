"""The vector checker: every id passes it, and every broken shell is caught."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import separatrix  # noqa: F401
from separatrix.envs.core.batched_env import BatchedEnv
from separatrix.envs.core.checks import check_vector_env
from separatrix.envs.core.registration import REGISTRY
from separatrix.envs.core.state import put, take
from separatrix.envs.core.stream import Stream

LORENZ = "separatrix/Lorenz-v0"
NEXT_STEP, SAME_STEP, DISABLED = (
    AutoresetMode.NEXT_STEP,
    AutoresetMode.SAME_STEP,
    AutoresetMode.DISABLED,
)
Output = tuple[Any, Any, Any, Any, dict[str, Any]]
Advance = Callable[[Any], Output]


def is_long(environment_id: str) -> bool:
    """Whether a step is thousands of times the work of others."""
    return "resolution" in REGISTRY[environment_id].options


@pytest.mark.parametrize(
    ("environment_id", "output"),
    [
        pytest.param(name, output, marks=[pytest.mark.slow] if slow else [])
        for name in REGISTRY
        for output in ("numpy", "torch")
        for slow in [is_long(name) and output == "numpy"]
    ],
)
def test_every_id_passes(environment_id: str, output: str) -> None:
    steps: dict[str, Any] = {"max_episode_steps": 11} if is_long(environment_id) else {}
    check_vector_env(environment_id, num_envs=3, output=output, **steps)  # every autoreset mode


def test_parameters_of_each_environment_pass() -> None:
    check_vector_env(LORENZ, parameters={"rho": torch.linspace(20.0, 40.0, 5)}, sigma=11.0)


def test_float64_passes() -> None:
    check_vector_env(LORENZ, dtype="float64", autoreset_modes=[SAME_STEP])


def test_torch_backend_passes_to_a_tolerance() -> None:
    modes = [SAME_STEP]
    check_vector_env(
        LORENZ, num_envs=3, autoreset_modes=modes, tolerance=1e-4, backend="torch", substeps=2
    )


def test_episodes_that_end_by_divergence_pass() -> None:
    # Euler's method with this step leaves the safe box after 3 to 16 steps.
    options: dict[str, Any] = {"control_interval": 0.1, "substeps": 1, "integrator": "euler"}
    check_vector_env(LORENZ, max_episode_steps=9, **options)


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [2, 33])
@pytest.mark.parametrize("environment_id", list(REGISTRY))
def test_every_id_passes_in_other_sizes(environment_id: str, num_envs: int) -> None:
    check_vector_env(environment_id, num_envs=num_envs, max_episode_steps=11)


def one_buffer(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    observations, *rest = advance(actions)
    buffer = env.__dict__.setdefault("buffer", observations.copy())
    buffer[...] = observations
    return buffer, *rest


def one_buffer_of_flags(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    observations, rewards, terminations, *rest = advance(actions)
    return observations, rewards, env.__dict__.setdefault("buffer", terminations), *rest


def own_counter_in_infos(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    *rest, infos = advance(actions)
    if "episode_return" in infos:
        infos["episode_return"] = env._return.numpy()
    return *rest, infos


def own_state_as_observation(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    observations, *rest = advance(actions)
    env.state.values.copy_(torch.from_numpy(observations))
    return env.state.values.numpy(), *rest


def no_mask(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    *rest, infos = advance(actions)
    del infos["_diverged"]
    return *rest, infos


def no_mask_in_final_info(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    *rest, infos = advance(actions)
    infos.get("final_info", {}).pop("_episode_return", None)
    return *rest, infos


def mask_of_one(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    *rest, infos = advance(actions)
    return *rest, {**infos, "_distance": infos["_distance"][:1]}


def mask_of_all(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    *rest, infos = advance(actions)
    infos.get("_final_obs", np.zeros(0))[...] = True
    return *rest, infos


def infos_of_objects(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    *rest, infos = advance(actions)
    return *rest, {**infos, "distance": infos["distance"].astype(object)}


def reset_observation_as_final(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    observations, *rest, infos = advance(actions)
    if "final_obs" in infos:
        infos["final_obs"] = observations.copy()
    return observations, *rest, infos


def neighbours_rolled_back(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    before, waiting = env.state, env._ended
    output = advance(actions)
    ended = waiting | torch.from_numpy(output[2] | output[3])
    if ended.any():
        rows = ended.nonzero()[:, 0]
        rolled_back = put(before, rows, take(env.state, rows))
        env.state = replace(rolled_back, interval=env.state.interval)
    return output


def reward_of_the_reset_step(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    waiting = env._ended.numpy()
    observations, rewards, *rest = advance(actions)
    return observations, np.where(waiting, np.float32(0.25), rewards), *rest


def flags_of_the_reset_step(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    waiting = env._ended.numpy()
    observations, rewards, terminations, *rest = advance(actions)
    return observations, rewards, terminations | waiting, *rest


def ended_environments_stepped(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    env._ended = torch.zeros_like(env._ended)
    return advance(actions)


def observation_outside(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    observations, *rest = advance(actions)
    return observations + np.float32(1000.0), *rest


def observation_in_float64(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    observations, *rest = advance(actions)
    return observations.astype(np.float64), *rest


def flags_as_numbers(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    *rest, truncations, infos = advance(actions)
    return *rest, truncations.astype(np.int8), infos


def rewards_of_one_column(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    observations, rewards, *rest = advance(actions)
    return observations, rewards[:, None], *rest


def tensors_for_arrays(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    observations, *rest = advance(actions)
    return torch.from_numpy(observations), *rest


def read_only_observations(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    observations, *rest = advance(actions)
    observations.setflags(write=False)
    return observations, *rest


def actions_scaled_in_place(env: BatchedEnv, advance: Advance, actions: Any) -> Output:
    output = advance(actions)
    actions *= 2.0
    return output


@pytest.mark.parametrize(
    ("broken", "mode", "message"),
    [
        (one_buffer, SAME_STEP, "observations of call .* changed after it was handed out"),
        (one_buffer_of_flags, SAME_STEP, "terminations of call .* shares memory with"),
        (own_counter_in_infos, NEXT_STEP, r"overwritten: environment .*\['episode_return'\]"),
        (own_state_as_observation, SAME_STEP, "reset: environment 1: got"),
        (no_mask, SAME_STEP, "has no mask '_diverged'"),
        (no_mask_in_final_info, SAME_STEP, r"\['final_info'\].* has no mask '_episode_return'"),
        (mask_of_one, SAME_STEP, r"\['_distance'\]: got bool of shape \(1,\)"),
        (mask_of_all, SAME_STEP, r"environment 1: info: got .*'final_obs'.*; a single env"),
        (infos_of_objects, SAME_STEP, r"\['distance'\]: got object"),
        (reset_observation_as_final, SAME_STEP, r"environment 0: info\['final_obs'\]: got"),
        (neighbours_rolled_back, SAME_STEP, "environment 1: reward: got"),
        (neighbours_rolled_back, NEXT_STEP, "environment 1: reward: got"),
        (reward_of_the_reset_step, NEXT_STEP, r"reward: got 0.25; a single environment has 0.0"),
        (flags_of_the_reset_step, NEXT_STEP, "terminated: got True; a single environment has F"),
        (ended_environments_stepped, DISABLED, "an ended environment was stepped"),
        (observation_outside, SAME_STEP, "observations: outside of the space"),
        (observation_in_float64, SAME_STEP, "observations: got float64, not float32"),
        (flags_as_numbers, SAME_STEP, "truncations: got int8"),
        (rewards_of_one_column, SAME_STEP, r"rewards: got float32 of shape \(3, 1\)"),
        (tensors_for_arrays, SAME_STEP, "observations: got .*Tensor.*, not ndarray"),
        (read_only_observations, SAME_STEP, "observations: is read-only"),
        (actions_scaled_in_place, SAME_STEP, "actions were overwritten"),
    ],
)
def test_broken_step_is_caught(
    broken: Callable[[BatchedEnv, Advance, Any], Output],
    mode: AutoresetMode,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound = BatchedEnv.step
    monkeypatch.setattr(
        BatchedEnv, "step", lambda env, actions: broken(env, sound.__get__(env), actions)
    )
    with pytest.raises(AssertionError, match=message):
        check_vector_env(LORENZ, num_envs=3, autoreset_modes=[mode])


Reset = Callable[..., tuple[Any, dict[str, Any]]]


def seed_ignored(env: BatchedEnv, reset: Reset, seed: Any, options: Any) -> Any:
    return reset(seed=None, options=options)


def one_seed_for_all(env: BatchedEnv, reset: Reset, seed: Any, options: Any) -> Any:
    return reset(seed=None if seed is None else [seed] * env.num_envs, options=options)


def one_fixed_seed(env: BatchedEnv, reset: Reset, seed: Any, options: Any) -> Any:
    return reset(seed=None if seed is None else 5, options=options)


def episode_repeated(env: BatchedEnv, reset: Reset, seed: Any, options: Any) -> Any:
    again = None if env.state is None or options else env.state.stream.seed.tolist()
    return reset(seed=again if seed is None else seed, options=options)


def lengths_of_all_cleared(env: BatchedEnv, reset: Reset, seed: Any, options: Any) -> Any:
    output = reset(seed=seed, options=options)
    env.state = replace(env.state, interval=torch.zeros_like(env.state.interval))
    return output


def returns_of_all_cleared(env: BatchedEnv, reset: Reset, seed: Any, options: Any) -> Any:
    output = reset(seed=seed, options=options)
    env._return = torch.zeros_like(env._return)
    return output


def mask_ignored(env: BatchedEnv, reset: Reset, seed: Any, options: Any) -> Any:
    return reset(seed=seed)


def neighbours_streams_advanced(env: BatchedEnv, reset: Reset, seed: Any, options: Any) -> Any:
    output = reset(seed=seed, options=options)
    if options:
        stream: Stream = env.state.stream
        stream.episode.add_(1)
    return output


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (seed_ignored, "seed 7: another batch has another trajectory"),
        (one_seed_for_all, "reset: environment 1: got"),
        (one_fixed_seed, "two seeds start at the same observations"),
        (episode_repeated, "a reset without seed repeats the episode"),
        (lengths_of_all_cleared, "truncated: got False; a single environment has True"),
        (returns_of_all_cleared, r"\['episode_return'\]: got"),
        (mask_ignored, "reset: environment 1: got"),
        (neighbours_streams_advanced, "reset: environment .: got|observation: got"),
    ],
)
def test_broken_reset_is_caught(
    broken: Callable[..., Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = BatchedEnv.reset

    def patched(env: BatchedEnv, *, seed: Any = None, options: Any = None) -> Any:
        return broken(env, sound.__get__(env), seed, options)

    monkeypatch.setattr(BatchedEnv, "reset", patched)
    with pytest.raises(AssertionError, match=message):
        check_vector_env(LORENZ, num_envs=3, autoreset_modes=[SAME_STEP])


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("num_envs", 2, "num_envs: got 2; made with 3"),
        ("metadata", {"autoreset_mode": SAME_STEP}, "autoreset_mode: got .*SAME_STEP"),
        ("autoreset_mode", SAME_STEP, "autoreset_mode: got .*SAME_STEP"),
        ("single_action_space", None, "single_action_space: got None"),
        ("observation_space", None, "observation_space: got None"),
    ],
)
def test_broken_attribute_is_caught(
    attribute: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = BatchedEnv.__init__

    def patched(env: BatchedEnv, *arguments: Any, **options: Any) -> None:
        sound(env, *arguments, **options)
        setattr(env, attribute, value)

    monkeypatch.setattr(BatchedEnv, "__init__", patched)
    with pytest.raises(AssertionError, match=message):
        check_vector_env(LORENZ, num_envs=3, autoreset_modes=[NEXT_STEP])


def test_horizon_too_short_to_stagger_is_told() -> None:
    with pytest.raises(AssertionError, match="all episodes ended together: nothing to compare"):
        check_vector_env(LORENZ, num_envs=2, max_episode_steps=1)
