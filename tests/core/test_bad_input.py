"""Bad arguments: one clear error each, that says what was got and what is allowed."""

import json
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import separatrix  # noqa: F401
from separatrix.envs.core.batched_env import BatchedEnv
from separatrix.envs.core.inputs import read_mask, read_seeds
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.single_env import SingleEnv

LORENZ = "separatrix/Lorenz-v0"


# As a user writes them; the first ones hold for a single environment and for a batch.
BAD_OPTIONS = {
    "rhoo=28.0": "unknown option 'rhoo' of separatrix/Lorenz-v0; did you mean 'rho'? allowed: sig",
    "viscosity=1.0": "unknown option 'viscosity' of separatrix/Lorenz-v0; allowed: sigma, rho",
    "horizon=3": "unknown option 'horizon'; allowed: max_episode_steps",
    "task='holt'": "unknown task 'holt'; did you mean 'hold'? allowed: hold",
    "task=None": "unknown task None; allowed: hold",
    "task=['hold']": "unknown task ['hold']; did you mean 'hold'? allowed: hold",
    "device='gpu'": "device 'gpu' is not available; allowed here: cpu",
    "device='cuda:99'": "device 'cuda:99' is not available; allowed here: cpu",
    "device='meta'": "device 'meta' is not available; allowed here: cpu",
    "device=1.5": "device 1.5 is not available; allowed here: cpu",
    "dtype='float16'": "dtype: got 'float16'; allowed: float32, float64",
    "dtype=torch.int64": "dtype: got torch.int64; allowed: float32, float64",
    "backend='jax'": "unknown backend 'jax'; allowed: auto, numba, triton, torch",
    "integrator='rk5'": "unknown integrator 'rk5'; allowed: euler, heun, rk4, tsit5",
    "substeps=0": "substeps: got 0; allowed: an integer >= 1",
    "substeps=2.0": "substeps: got 2.0; allowed: an integer >= 1",
    "substeps=True": "substeps: got True; allowed: an integer >= 1",
    "control_interval=0.0": "control_interval: got 0.0; allowed: a number > 0",
    "control_interval=math.nan": "control_interval: got nan; allowed: a number > 0",
    "control_interval=math.inf": "control_interval: got inf; allowed: a number > 0",
    "control_interval='long'": "control_interval: got 'long'; allowed: a number > 0",
    "rho=math.nan": "parameter 'rho': got nan; allowed: finite numbers",
    "rho='high'": "parameter 'rho': got 'high'; allowed: real numbers",
    "rho=None": "parameter 'rho': got None; allowed: real numbers",
    "rho=[[28.0], 29.0]": "parameter 'rho': got [[28.0], 29.0]; allowed: real numbers",
    "rho=28 + 1j": "parameter 'rho': got (28+1j); allowed: real numbers",
    "rho=[28.0, 29.0]": "parameter 'rho': got shape (2,); allowed: one number, or one for each of",
    "rho=np.ones((3, 1))": "parameter 'rho': got shape (3, 1); allowed: one number, or one for ea",
    "width=-1.0": "width: got -1.0; allowed: a number > 0",
    "radius='far'": "radius: got 'far'; allowed: a number > 0",
    "authority=math.inf": "authority: got inf; allowed: a number > 0",
    "near=(0.0, 1.0)": "near: got (0.0, 1.0); allowed: 3 finite numbers",
    "near=3.0": "near: got 3.0; allowed: 3 finite numbers",
    "near='here'": "near: got 'here'; allowed: real numbers",
}
BAD_OPTIONS_OF_BATCHES = {
    "num_envs=0": "num_envs: got 0; allowed: an integer >= 1",
    "num_envs=2.0": "num_envs: got 2.0; allowed: an integer >= 1",
    "max_episode_steps=0": "max_episode_steps: got 0; allowed: an integer >= 1",
    "max_episode_steps=7.5": "max_episode_steps: got 7.5; allowed: an integer >= 1",
    "output='jax'": "output: got 'jax'; allowed: numpy, torch",
    "autoreset_mode='never'": "autoreset_mode: got 'never'; allowed: NextStep, SameStep, Disabled",
    "autoreset_mode=None": "autoreset_mode: got None; allowed: NextStep, SameStep, Disabled",
    "render_mode='human'": "render_mode: got 'human'; allowed: None, 'rgb_array'",
}
SCRIPT = """
import json, math, sys
import gymnasium as gym, numpy as np, torch, separatrix

def single(**options):
    gym.make("separatrix/Lorenz-v0", **options)

def batch(num_envs=3, **options):
    gym.make_vec("separatrix/Lorenz-v0", num_envs, **options)

def error(call):
    try:
        eval(call)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["none", "no error"]

print(json.dumps({call: error(call) for call in json.load(sys.stdin)}))
"""
CALLS = {
    **{f"{kind}({text})": m for kind in ("single", "batch") for text, m in BAD_OPTIONS.items()},
    **{f"batch({text})": message for text, message in BAD_OPTIONS_OF_BATCHES.items()},
}


@pytest.fixture(scope="module")
def errors() -> dict[str, tuple[str, str]]:
    """The errors of all calls in a fresh interpreter, which does not check types as tests do."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        input=json.dumps(list(CALLS)),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, tuple[str, str]] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("call", list(CALLS))
def test_bad_option_is_told_at_make(call: str, errors: dict[str, tuple[str, str]]) -> None:
    kind, text = errors[call]
    text = text.split(" was raised from the environment creator")[0]  # added by Gymnasium
    assert kind == "ValueError" and CALLS[call] in text
    assert len(text) < 250


def test_system_without_a_fixed_point_is_told_at_make() -> None:
    message = r"rossler: no fixed point found from .* with parameters \{'a': .*'c': \[0.1\]"
    with pytest.raises(ValueError, match=message):
        make_environment("Rossler-v0", c=0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_absent_gpu_is_told_at_make() -> None:
    with pytest.raises(ValueError, match=r"device 'cuda' is not available; allowed here: cpu$"):
        make_environment(LORENZ, device="cuda")


def test_unknown_ids() -> None:
    message = "unknown environment 'Lorentz-v0'; did you mean 'separatrix/Lorenz-v0'. allowed: "
    with pytest.raises(ValueError, match=message):
        make_environment("Lorentz-v0")
    with pytest.raises(gym.error.NameNotFound, match="Did you mean: `Lorenz`"):
        gym.make("separatrix/Lorentz-v0")


@pytest.mark.parametrize(
    "seed", [-1, 2**63, 0.5, "seven", [1, 2], [0, 1, -2], [0, 1, 2.5], np.ones(3), {}, [[0, 1, 2]]]
)
def test_seeds_that_are_none(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed: got .*; allowed: "):
        read_seeds(seed, 3)


@pytest.mark.parametrize("seed", [np.int64(7), np.array([7, 8, 9]), [7, 8, 9], (7, 8, 9)])
def test_seeds_of_every_kind(seed: Any) -> None:
    assert read_seeds(seed, 3).tolist() == [7, 8, 9]


# Anything at all that Python, numpy or torch may hand over.
numbers = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3), st.complex_numbers()
)
shapes = st.sampled_from([(), (1,), (3,), (3, 1), (1, 3), (3, 2), (0, 1), (3, 1, 1)])
dtypes = st.sampled_from(["f4", "f8", "f2", "i8", "u1", "?", "c8", "U2", ">f4", "O", "M8[s]"])
anything = st.one_of(
    numbers,
    st.lists(numbers, max_size=4),
    st.lists(st.lists(st.floats(), min_size=1, max_size=1), min_size=3, max_size=3),
    st.builds(lambda dtype, shape: np.zeros(shape, dtype), dtypes, shapes),
    arrays(np.float32, (3, 1)),
    arrays(np.float64, (3, 1)),
    arrays(np.float64, (3, 1)).map(lambda array: torch.from_numpy(array)),
    st.sampled_from([torch.zeros(3, 1, dtype=torch.complex64), torch.zeros(3), {}, object()]),
)
fuzz = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def batch() -> BatchedEnv:
    return BatchedEnv(LORENZ, 3, max_episode_steps=4)


@pytest.fixture(scope="module")
def single() -> SingleEnv:
    return SingleEnv(LORENZ)


@fuzz
@given(actions=anything)
@example(actions=np.array([[1e300], [-1e300], [0.0]]))
@example(actions=torch.tensor([[1e300], [5e-324], [-0.0]], dtype=torch.float64))
def test_any_actions_work_or_raise(batch: BatchedEnv, actions: Any) -> None:
    batch.reset(seed=0)
    try:
        observation, reward, *_ = batch.step(actions)
    except (ValueError, TypeError):
        observation, reward, *_ = batch.step(np.zeros((3, 1)))  # and it goes on
    assert batch.observation_space.contains(observation)
    assert ((reward >= 0) & (reward <= 1)).all()


@fuzz
@given(action=st.one_of(anything, arrays(np.float64, (1,)), st.lists(st.floats(), max_size=2)))
def test_any_action_works_or_raises(single: SingleEnv, action: Any) -> None:
    single.reset(seed=0)
    try:
        observation, reward, *_ = single.step(action)
    except (ValueError, TypeError):
        observation, reward, *_ = single.step(np.zeros(1))
    assert single.observation_space.contains(observation) and 0 <= reward <= 1


@fuzz
@given(seed=st.one_of(anything, st.integers(0, 2**64), st.lists(st.integers(), max_size=4)))
def test_any_seeds_work_or_raise(seed: Any) -> None:
    try:
        seeds = read_seeds(seed, 3)
    except (ValueError, TypeError):
        return
    assert seeds.dtype == torch.int64 and seeds.shape == (3,) and (seeds >= 0).all()
    environment = make_environment(LORENZ, 3)
    assert environment.reset(seeds)[1].isfinite().all()


@fuzz
@given(mask=st.one_of(anything, arrays(np.bool_, (3,)), st.lists(st.booleans(), max_size=4)))
def test_any_mask_works_or_raises(mask: Any) -> None:
    try:
        found = read_mask(mask, 3)
    except (ValueError, TypeError):
        return
    assert found.dtype == torch.bool and found.shape == (3,) and found.any()


@settings(parent=fuzz, max_examples=60)
@given(
    name=st.sampled_from(["rho", "sigma", "beta", "control_interval", "substeps"]),
    value=st.one_of(anything, st.floats(-50.0, 50.0), st.lists(st.floats(-40, 40), max_size=3)),
)
@example(name="rho", value=1e300)
@example(name="rho", value=1e-300)
@example(name="beta", value=0.0)
@example(name="control_interval", value=1e300)
@example(name="width", value=1e-150)
@example(name="width", value=1e300)
def test_any_option_works_or_raises(name: str, value: Any) -> None:
    """Whatever it is, no NaN reaches an agent; a state that overflows has diverged."""
    if name == "substeps" and isinstance(value, int) and value > 100:
        value = 100  # works, and takes its time
    try:
        environment = make_environment(LORENZ, 3, **{name: value})
    except (ValueError, TypeError):
        return
    state, observation = environment.reset(0)
    assert observation.isfinite().all()
    for _ in range(3):
        state, observation, reward, terminated, info = environment.step(state, torch.ones(3, 1))
        assert observation.isfinite().all() and ((reward >= 0) & (reward <= 1)).all()
        assert (terminated == info["diverged"]).all()
