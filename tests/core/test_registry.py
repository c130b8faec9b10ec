"""What every registered environment owes its users."""

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import separatrix  # noqa: F401
from separatrix.envs.core.batched_env import BatchedEnv
from separatrix.envs.core.registration import REGISTRY, find, make_environment
from separatrix.envs.streams.stream import STREAMS

IDS = list(REGISTRY)
PROMPTS = tuple(f"separatrix/Prompt{name}-v0" for name in ("Token", "Edit", "Dialogue"))
SOFT = "separatrix/SoftPrompt-v0"
CONTINUOUS = [id for id in IDS if id not in PROMPTS]
# Of options that are not numbers, and of numbers of which half as much again would not be seen.
OTHER_VALUES: dict[Any, Any] = {
    "integrator": "heun",
    "substeps": 25,
    "radius": 40.0,
    ("separatrix/Lorenz-v0", "near"): (-8.5, -8.5, 27.0),
    ("separatrix/Rossler-v0", "near"): (5.7, -28.0, 28.0),
    ("separatrix/Chua-v0", "near"): (-1.5, 0.0, 1.5),
    ("separatrix/Chen-v0", "near"): (-8.0, -8.0, 21.0),
    ("separatrix/Duffing-v0", "near"): (-0.55, -0.57, 0.29, 0.0, 0.29, 0.57),
    ("separatrix/Henon-v0", "near"): (-1.13, -0.34),
    ("separatrix/HenonHeiles-v0", "near"): (0.0, 1.0, 0.0, 0.0),
    ("separatrix/HenonHeiles-v0", "task"): "energy",
    ("separatrix/DoublePendulum-v0", "task"): "energy",
    "points": 96,
    "resolution": 20,
    ("separatrix/Pinball-v0", "lift_weight"): 1.0,  # 0 by default
    "domain": "free_stream",
    "start": "impulsive",
    "observed": "probes",
    ("separatrix/JetCylinder-v0", "observed"): "forces",
    ("separatrix/HalfCheetah-v0", "body"): "feet",
    "handle": "lever_left",
    ("separatrix/Hopper-v0", "healthy_height"): 1.24,
    ("separatrix/Hopper-v0", "healthy_angle"): 0.01,
    ("separatrix/InvertedPendulum-v0", "healthy_angle"): 0.5,
    **{(stream_id, "task"): 1 for stream_id in STREAMS},
    ("separatrix/Refrigerator-v0", "door"): "closed",
    ("separatrix/Refrigerator-v0", "start"): (0.0, 1.0),
    "texts": "python",
    "text_length": 12,
    "target": "uniform",
    "target_rank": 5,
    "fixed_text": "The sea is ",
    "tolerance": 10.0,  # so that everything is a hit
    "fixed_target": "q",
    "sink": None,
    "prompt_length": 3,
    "place": "after",
    "candidates": 50,
    "turns": 20,
    "directions": 4,
    **{
        (name, option): value
        for name in PROMPTS
        for option, value in (("reward", "hit"), ("price", 0.5), ("observation", "tokens"))
    },
    (SOFT, "price"): 0.5,
    (SOFT, "observation"): "features",
    "patient": "adult#002",
    "days": 2,
    "meals": [(0, 50)],
    ("separatrix/Glucose-v0", "control_interval"): 10,
    "reward": "magni",
    "announced": False,
    "actuators": 5,
    "sensors": 7,
    "actuator_shape": "top_hat",
    "sensor_shape": "mode",
    "sensor_width": 0.1,
    "reward_shape": "quadratic",
    ("separatrix/KuramotoSivashinsky-v0", "task"): "regulate",
    ("separatrix/KuramotoSivashinsky-v0", "integrator"): "imexrk3",
    ("separatrix/KuramotoSivashinsky-v0", "length"): 23.0,  # equilibria end above 25
    ("separatrix/KuramotoSivashinsky-v0", "target_name"): "E3",
    ("separatrix/KuramotoSivashinsky-v0", "control_weight"): 0.1,
    "level": 0.1,
    ("separatrix/DoublePendulum-v0", "elbow_torque"): 5.0,  # 0 by default
    ("separatrix/Burgers-v0", "task"): "regulate",
    ("separatrix/Burgers-v0", "target_name"): "waves",
    ("separatrix/ConvectionDiffusionReaction-v0", "task"): "regulate",
    ("separatrix/ConvectionDiffusionReaction-v0", "target_name"): "wave",
    ("separatrix/KortewegDeVries-v0", "task"): "regulate",
    ("separatrix/KortewegDeVries-v0", "target_name"): "slow",
    ("separatrix/Schrodinger-v0", "task"): "regulate",
    ("separatrix/Schrodinger-v0", "target_name"): "zero",
    ("separatrix/Wave-v0", "task"): "regulate",
    ("separatrix/Wave-v0", "target_name"): "bent",
    ("separatrix/AllenCahn-v0", "task"): "regulate",
    ("separatrix/AllenCahn-v0", "target_name"): "zero",
    ("separatrix/CahnHilliard-v0", "task"): "regulate",
    ("separatrix/CahnHilliard-v0", "target_name"): "zero",
    ("separatrix/CahnHilliard-v0", "surface_tension"): 0.015,  # two stripes end at 0.025
    ("separatrix/Fisher-v0", "task"): "regulate",
    ("separatrix/Fisher-v0", "target_name"): "zero",
    ("separatrix/GinzburgLandau-v0", "task"): "regulate",
    ("separatrix/GinzburgLandau-v0", "target_name"): "plus",
    ("separatrix/GinzburgLandau-v0", "actuator_shape"): "gaussian",
    ("separatrix/ComplexGinzburgLandau-v0", "task"): "still",
    ("separatrix/ComplexGinzburgLandau-v0", "points"): 64,
    ("separatrix/ComplexGinzburgLandau-v0", "control_weight"): 0.1,
    ("separatrix/GrayScott-v0", "target_name"): "fed",
    ("separatrix/KolmogorovFlow-v0", "task"): "reduce_dissipation",
    ("separatrix/KolmogorovFlow-v0", "target_name"): "zero",
    ("separatrix/KolmogorovFlow-v0", "actuator_shape"): "shear",
    ("separatrix/KolmogorovFlow-v0", "integrator"): "imexrk3",
    ("separatrix/ScalarMixing-v0", "forcing"): 1.0,  # 0 by default
    ("separatrix/ScalarMixing-v0", "actuator_shape"): "shear",
    ("separatrix/ScalarMixing-v0", "integrator"): "imexrk3",
    **{
        (f"separatrix/{name}-v0", "integrator"): "imexrk3"
        for name in (
            "AllenCahn",
            "CahnHilliard",
            "Fisher",
            "GinzburgLandau",
            "ComplexGinzburgLandau",
            "GrayScott",
        )
    },
    **{
        (f"separatrix/{name}", option): value
        for name in (
            "Burgers-v0",
            "ConvectionDiffusionReaction-v0",
            "KortewegDeVries-v0",
            "Schrodinger-v0",
            "Wave-v0",
        )
        for option, value in (("integrator", "imexrk3"), ("actuator_shape", "gaussian"))
    },
}
# A single task, and a system with a single fixed point, leave nothing to choose.
SINGLE_POINT = ("Lorenz96-v0", "HindmarshRose-v0", "VanDerPol-v0")
NO_CHOICE = {(f"separatrix/{name}", "near") for name in SINGLE_POINT} | {
    (environment_id, "task")
    for environment_id in IDS
    if (environment_id, "task") not in OTHER_VALUES
}
# One model ships with the package; the others are seen in tests of their own.
NO_CHOICE |= {
    (name, option)
    for name in (*PROMPTS, SOFT)
    for option in ("model", "target_length", "forbid_target")
}
# Editing costs nothing.
NO_CHOICE |= {("separatrix/PromptEdit-v0", "price")}
# The option of a task other than the default one.
TASK_OF: dict[Any, str | None] = {
    "target_energy": "energy",
    "level": "regulate",
    "control_weight": "regulate",
    ("separatrix/ComplexGinzburgLandau-v0", "control_weight"): None,
    ("separatrix/Pusher-v0", "control_weight"): None,
    ("separatrix/Door-v0", "control_weight"): None,
    ("separatrix/KuramotoSivashinsky-v0", "scale"): "reduce_power",
    ("separatrix/KuramotoSivashinsky-v0", "control_weight"): "reduce_power",
    ("separatrix/KolmogorovFlow-v0", "scale"): "reduce_dissipation",
    ("separatrix/KolmogorovFlow-v0", "control_weight"): "reduce_dissipation",
}
# Of parameters that are whole numbers, or zero by default.
ROWS = {"waves": (3.0, 4.0, 5.0), "forcing": (0.0, 0.5, 1.0)}
# Of the last observations so many are controls in force and their like, which are zero at first.
AT_REST = {
    "separatrix/RotaryCylinder-v0": 1,
    "separatrix/Pinball-v0": 3,
    "separatrix/Glucose-v0": 5,  # and at midnight nothing is eaten
    "separatrix/GlucoseStream-v0": 5,
    "separatrix/Door-v0": 3,  # angles of door and handle, and the grip
    "separatrix/DoorStream-v0": 3,
    "separatrix/Refrigerator-v0": 1,  # the set-point
    "separatrix/PromptToken-v0": 2,  # without a prompt nothing diverges, and all of it is left
    "separatrix/PromptDialogue-v0": 2,
    SOFT: 192,  # vectors that are the mean of all embeddings
}
WANTED = {"separatrix/Refrigerator-v0": 1}
"""Of the last observations so many tell what is wanted, which is constant in time."""
GENTLE = {"separatrix/Glucose-v0": 0.03, "separatrix/GlucoseStream-v0": 0.03}
"""Size of random actions, where larger ones end an episode."""
FALLS = ("separatrix/Hopper-v0", "separatrix/InvertedPendulum-v0")
"""Where random actions end episodes, whatever their size."""
OPTIONS = [
    # With other flows to be developed first, which takes long; one parameter of patients is enough.
    pytest.param(entry.id, name, marks=pytest.mark.slow)
    if name in ("resolution", "domain", "speed")
    or (entry.options[name] is None and name != "kp1" and "model" not in entry.options)
    else (entry.id, name)
    for entry in REGISTRY.values()
    for name in entry.options
    if (entry.id, name) not in NO_CHOICE
]


def push(environment_id: str, steps: int, num_envs: int = 2, **options: Any) -> torch.Tensor:
    """Pushes with full force, and returns the observations, rewards and metrics of all steps."""
    environment = make_environment(environment_id, num_envs, **options)
    state, observation = environment.reset(0)
    action = torch.ones((num_envs, *environment.action_shape), dtype=environment.dtype)
    if environment_id in PROMPTS:  # the second choice, and the last ones, of which one yields
        counts = getattr(
            environment.action_space, "nvec", getattr(environment.action_space, "n", 0)
        )
        action = (torch.as_tensor(counts) - 1).expand(action.shape).long().clone()
        action[0] = 1
    found = [observation.flatten()]
    for _ in range(steps):
        state, observation, reward, _, info = environment.step(state, action)
        found += [observation.flatten(), reward, *(value.to(reward) for value in info.values())]
    return torch.cat(found)


@pytest.mark.parametrize("environment_id", IDS)
def test_gymnasium_finds_no_fault(environment_id: str) -> None:
    env = gym.make(environment_id, render_mode="rgb_array")
    check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("environment_id", IDS)
def test_stable_baselines3_finds_no_fault(environment_id: str) -> None:
    env = gym.make(environment_id, render_mode="rgb_array")
    stable_baselines3.common.env_checker.check_env(env)
    env.close()


@pytest.mark.parametrize("environment_id", IDS)
def test_specification_survives_pickle_and_json(environment_id: str) -> None:
    def start(spec: EnvSpec) -> list[float]:
        observation: list[float] = gym.make(spec).reset(seed=3)[0].tolist()
        return observation

    spec = gym.spec(environment_id)
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec == EnvSpec.from_json(spec.to_json())
    assert start(again) == start(spec)
    if environment_id in STREAMS:
        changed = pickle.loads(pickle.dumps(gym.make(environment_id, task=2).spec))
        assert gym.make(changed).unwrapped.environment.tasks.tolist() == [2]  # type: ignore[attr-defined]
        return
    if environment_id in (*PROMPTS, SOFT):
        made = gym.make(environment_id, text_length=7).spec
        assert made is not None
        again = gym.make(pickle.loads(pickle.dumps(made))).unwrapped
        assert again.environment.system.instances.text_length == 7  # type: ignore[attr-defined]
        return
    offered = "control_interval" in REGISTRY[environment_id].options  # not by maps
    task = gym.make(environment_id).unwrapped.environment.task  # type: ignore[attr-defined]
    own = (name for name in REGISTRY[environment_id].options if hasattr(task, name))
    option = "control_interval" if offered else next(own)
    value = 2 if isinstance(REGISTRY[environment_id].options[option], int) else 0.02
    options: dict[str, Any] = {option: value}
    made = gym.make(environment_id, **options).spec
    assert made is not None and made.kwargs[option] == value
    copy: Any = gym.make(pickle.loads(pickle.dumps(made))).unwrapped
    environment = copy.environment
    assert getattr(environment if offered else environment.task, option) == value


@pytest.mark.parametrize("environment_id", IDS)
def test_rollout_is_finite_in_range_and_never_constant(environment_id: str) -> None:
    envs = BatchedEnv(environment_id, 8)
    low, high = envs.environment.reward_range
    envs.action_space.seed(0)
    start, _ = envs.reset(seed=0)
    observations, rewards, ended = [start], [], False
    for _ in range(REGISTRY[environment_id].horizon + 1):
        actions = envs.action_space.sample()
        if environment_id in GENTLE:
            actions = actions * np.float32(GENTLE[environment_id])
        observation, reward, terminated, *_, infos = envs.step(actions)
        assert not infos["diverged"].any()
        ended |= bool(terminated.any())
        observations.append(observation)
        rewards.append(reward)
    assert ended == (environment_id in FALLS)
    series = np.stack(observations)
    assert np.isfinite(series).all()
    space = envs.environment.observation_space
    assert (series >= space.low).all() and (series <= space.high).all()
    assert low <= np.min(rewards) < np.max(rewards) <= high
    varying = start.shape[1] - WANTED.get(environment_id, 0)
    assert (np.ptp(series[..., :varying], axis=0) > 0).all(), "an observation is constant in time"
    assert len(np.unique(start, axis=0)) == len(start), "two environments start alike"
    moving = start.shape[1] - AT_REST.get(environment_id, 0)
    assert (np.ptp(start[:, :moving], axis=0) > 0).all(), "a first observation is fixed"


@pytest.mark.parametrize("environment_id", CONTINUOUS)
def test_actions_matter(environment_id: str) -> None:
    environment = make_environment(environment_id, 1)
    state, _ = environment.reset(0)
    size = environment.action_shape[0]
    pushes = torch.cat([torch.zeros(1, size), torch.eye(size)])
    stepped = make_environment(environment_id, size + 1)
    states = stepped.reset(torch.zeros(size + 1, dtype=torch.int64))[0]
    observations = stepped.step(states, pushes).observation
    assert (observations[1:] != observations[:1]).any(1).all(), "an action does nothing"
    assert len(observations.unique(dim=0)) == size + 1
    assert torch.equal(
        observations[0], environment.step(state, torch.zeros(1, size)).observation[0]
    )


@pytest.mark.parametrize(("environment_id", "name"), OPTIONS)
def test_option_reaches_the_environment(environment_id: str, name: str) -> None:
    default = REGISTRY[environment_id].options[name]
    number = 1.5 * default if isinstance(default, float) else None
    if (
        default is None and (environment_id, name) not in OTHER_VALUES and name not in OTHER_VALUES
    ):  # a parameter of the patient, unless it is given
        number = 1.2 * float(make_environment(environment_id).system.parameters[name])
    value = OTHER_VALUES.get((environment_id, name), OTHER_VALUES.get(name, number))
    glucose = environment_id == "separatrix/Glucose-v0"
    seldom = name in ("rail", "leak_open", "door")  # the stop is far; someone opens the door
    steps = 100 if seldom or glucose else 20
    backend = "torch" if name == "integrator" else "auto"  # nothing to compile
    other_task = TASK_OF.get((environment_id, name), TASK_OF.get(name))
    task: dict[str, Any] = {"task": other_task} if other_task else {}
    if glucose and name not in ("meals", "meal_factor", "days", "bolus_hours"):
        task = {"meals": [(30, 400)], "bolus_hours": 0.1}  # to be seen by all parameters
    if name == "body_scale":
        task = {"body": "thighs"}
    if name == "tolerance":
        task = {"target": "distribution"}
    usual, same, other = (
        push(environment_id, steps, backend=backend, **task, **options)
        for options in ({}, {name: default}, {name: value})
    )
    assert torch.equal(same, usual)
    assert other.shape != usual.shape or not torch.equal(other, usual)


@pytest.mark.parametrize("environment_id", [id for id in IDS if id not in STREAMS])
def test_every_parameter_may_differ_between_environments(environment_id: str) -> None:
    environment = make_environment(environment_id, 3)
    factors = torch.tensor([0.9, 1.0, 1.1], dtype=torch.float64)
    for name in getattr(environment.system, "parameters", ()):
        usual = factors * environment.system.parameters[name]
        values = torch.tensor(ROWS[name], dtype=torch.float64) if name in ROWS else usual
        own: dict[str, Any] = {name: values}
        batch = make_environment(environment_id, 3, **own)
        seeds = torch.full((3,), 5)
        state, observation = batch.reset(seeds)
        action = torch.ones((3, *batch.action_shape))
        for _ in range(3):
            state, observation, *_ = batch.step(state, action)
        for i in range(3):
            own = {name: float(values[i])}
            alone = make_environment(environment_id, 1, **own)
            one, found = alone.reset(seeds[:1])
            for _ in range(3):
                one, found, *_ = alone.step(one, action[:1])
            assert torch.equal(observation[i], found[0]), name


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray, list])
def test_batch_of_parameters_equals_singles_made_with_them(kind: Any) -> None:
    rho = torch.linspace(20.0, 40.0, 6)
    envs = gym.make_vec("separatrix/Lorenz-v0", num_envs=6, rho=kind(rho), max_episode_steps=9)
    singles = [
        gym.make("separatrix/Lorenz-v0", rho=float(value), max_episode_steps=9) for value in rho
    ]
    envs.action_space.seed(1)
    observations, _ = envs.reset(seed=11)
    expected = [env.reset(seed=11 + i)[0] for i, env in enumerate(singles)]
    for _ in range(25):
        assert np.array_equal(observations, expected)
        actions = envs.action_space.sample()
        observations, rewards, _, truncations, infos = envs.step(actions)
        for i, env in enumerate(singles):
            expected[i], reward, _, truncated, _ = env.step(actions[i])
            assert rewards[i] == reward and truncations[i] == truncated
            if truncated:
                assert np.array_equal(infos["final_obs"][i], expected[i])
                expected[i], _ = env.reset()


@pytest.mark.parametrize("environment_id", IDS)
def test_documentation_names_every_option_and_has_the_headings(environment_id: str) -> None:
    text = find(environment_id).documented.__doc__
    assert text is not None
    headings = (
        "Description|Action space|Observation space|Reward|Starting state|Episode end|"
        "Arguments|References|Version history"
    )
    for heading in headings.split("|"):
        assert f"## {heading}\n" in text
    common = {"task", "control_interval", "substeps", "integrator"}
    for name in find(environment_id).options.keys() - common:
        assert f"`{name}`" in text, f"{name} is not documented"


def test_namespace_may_be_left_out() -> None:
    assert find("Lorenz-v0") is find("separatrix/Lorenz-v0")
