"""Single environments in processes of their own, after the parent ran a threaded kernel.

A process that is forked after its parent started numba's threads dies when it starts some itself.
"""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from numba import get_num_threads
from numba.np.ufunc.parallel import threading_layer

import separatrix  # noqa: F401
from separatrix.envs.core.registration import REGISTRY


# Python 3.12 and later warn whenever a process with threads forks.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("environment_id", list(REGISTRY))
def test_processes_equal_the_batch(environment_id: str, method: str) -> None:
    options = REGISTRY[environment_id].options
    # Of flows megabytes each; language models have no kernels that start threads.
    count = 8 if options.keys() & {"resolution", "model"} else 4096
    large = gym.make_vec(environment_id, num_envs=count)
    large.reset(seed=0)
    large.step(large.action_space.sample())
    if get_num_threads() > 1:
        threading_layer()  # raises unless a kernel has started threads

    def single() -> gym.Env:
        # By way of the module, since a spawned process has registered nothing.
        return gym.make(f"separatrix:{environment_id}", max_episode_steps=4)

    mode = AutoresetMode.SAME_STEP
    processes = AsyncVectorEnv([single] * 3, context=method, autoreset_mode=mode)
    try:
        batch = gym.make_vec(environment_id, num_envs=3, max_episode_steps=4)
        batch.action_space.seed(0)
        # With a time limit, since what this guards against is a hang.
        processes.reset_async(seed=6)
        found, _ = processes.reset_wait(timeout=300)
        assert np.array_equal(found, batch.reset(seed=6)[0])
        for _ in range(10):
            actions = batch.action_space.sample()
            processes.step_async(actions)
            for got, expected in zip(
                processes.step_wait(timeout=300)[:4], batch.step(actions)[:4], strict=True
            ):
                assert np.array_equal(got, expected)
    finally:
        processes.close(terminate=True)


FORK = """
import os, sys, time, warnings, torch
from separatrix.envs.core.registration import make_environment
warnings.simplefilter("ignore", DeprecationWarning)
torch.set_num_threads(2)
environment = make_environment("PromptToken-v0", 64)
state, _ = environment.reset(0)
child = os.fork()
if child == 0:
    environment.step(state, torch.full((64,), 40))
    os._exit(0)
for _ in range(600):
    if os.waitpid(child, os.WNOHANG) != (0, 0):
        sys.exit(0)
    time.sleep(0.1)
os.kill(child, 9)
sys.exit("the forked process waits for threads that it does not have")
"""


def test_torch_computes_in_a_forked_process() -> None:
    """In a process of its own: there no kernel has prepared for forks."""
    result = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_parent_goes_on_with_its_threads() -> None:
    large = gym.make_vec("separatrix/Lorenz-v0", num_envs=4096)
    first, _ = large.reset(seed=0)
    processes = AsyncVectorEnv([lambda: gym.make("separatrix/Lorenz-v0")] * 2, context="fork")
    try:
        assert np.array_equal(processes.reset(seed=0)[0], first[:2])
    finally:
        processes.close(terminate=True)
    assert np.isfinite(large.step(large.action_space.sample())[0]).all()
