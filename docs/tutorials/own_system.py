"""A system of your own: the Brusselator, a chemical oscillator, held at its steady state."""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from PIL import Image, ImageDraw
from stable_baselines3 import PPO

from separatrix.agents.common.stable_baselines3.vec_env import BatchedVecEnv
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqr import LQR
from separatrix.envs.core.checks import check_vector_env
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import INITIAL_STATE
from separatrix.envs.steppers.distance_task import DistanceTask
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode


class Mixed:
    """Both concentrations are drawn uniformly from 0 to 4."""

    def sample(self, stream):
        uniform, stream = stream.uniform(2, torch.float64, INITIAL_STATE)
        return 4 * uniform, stream


@ode(states="x y", controls="u", start=Mixed(), box=(-1.0, 20.0))
def brusselator(x, y, u, *, a=1.0, b=3.0):
    """I. Prigogine and R. Lefever, J. Chem. Phys. 48 (1968) 1695; u: inflow of x."""
    return a - (b + 1) * x + x**2 * y + u, b * x - x**2 * y


@dataclass(frozen=True)
class HoldSteadyState(DistanceTask):
    """Hold the steady state (a, b / a), which is unstable if b > 1 + a^2."""

    def equilibrium(self, system):
        a, b = torch.broadcast_tensors(system.parameters["a"], system.parameters["b"])
        return torch.stack((a, b / a), dim=1)

    def parameters(self, system):
        return {"target": self.equilibrium(system), **super().parameters(system)}

    def observation_bound(self, system):
        return np.full(2, 40.0)

    def observe(self, state, parameters):
        return [x - target for x, target in zip(state, parameters["target"], strict=True)]

    def square_distance(self, state, parameters):
        return sum(x**2 for x in self.observe(state, parameters))


def draw(values, environment):
    """A dot in the plane of the concentrations, from 0 to 5."""
    image = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(image).circle((40 * values[0], 200 - 40 * values[1]), 5, fill="black")
    return np.asarray(image)


register_ode(
    "Brusselator-v0",
    brusselator,
    {"hold": HoldSteadyState(width=0.5, radius=0.1)},
    control_interval=0.1,
    substeps=4,
    horizon=200,
    summary="Hold the Brusselator at its unstable steady state",
    draw=draw,
    documented=HoldSteadyState,
)


def main() -> None:
    """Checks the environment, steps a batch, differentiates, holds it with LQR, trains PPO."""
    check_vector_env("separatrix/Brusselator-v0")  # an AssertionError would say what is wrong

    b = torch.linspace(2.5, 3.5, 1000)
    envs = gym.make_vec("separatrix/Brusselator-v0", num_envs=1000, output="torch", b=b)
    envs.reset(seed=0)
    _, reward, *_ = envs.step(torch.zeros(1000, 1))
    print(f"mean reward of the first step: {reward.mean():.3f}")

    environment = make_environment("separatrix/Brusselator-v0", 128)
    actions = torch.zeros(50, 128, 1, requires_grad=True)
    state, _ = environment.reset(0)
    total = torch.zeros(())
    for action in actions:
        state, _, reward, _, _ = environment.step(state, action)
        total = total + reward.mean()
    (gradient,) = torch.autograd.grad(total, actions)
    print(f"gradient of the return by the first action: {gradient[0].sum():.4f}")

    for key, mean in evaluate(environment, LQR(environment), torch.arange(128)).means().items():
        print(f"LQR, {key}: {mean:.3f}")

    vector = BatchedVecEnv(gym.make_vec("separatrix/Brusselator-v0", num_envs=64, output="torch"))
    PPO("MlpPolicy", vector, n_steps=32, batch_size=512, gamma=0.98).learn(2 * 64 * 32)
    print("PPO: two updates")


if __name__ == "__main__":
    main()
