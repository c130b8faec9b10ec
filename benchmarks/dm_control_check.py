"""Runs controllers in dm_control's own cart-pole swing-up beside ours.

Ours is written from the equations of motion and generated as a kernel; dm_control's is simulated by
MuJoCo from its model file. Each controller acts in both, in float64:

    dm_control   `suite.load("cartpole", "swingup")` as it is: its starts, its reward, its end
    ours         separatrix/CartPoleSwingUp-v0 from its own starts
    difference   ours from the starts of dm_control minus dm_control, episode by episode

The table has mean returns with 95 % bootstrap intervals. Episodes from the same start may be driven
apart by rounding alone, hence every step of every episode of dm_control is taken by ours, too, from
the same state with the same action; the largest differences in observation, reward and state stand
beside the largest change of a state in a step. Where the cart touches a stop of the rail, MuJoCo's
solver is exact to a tolerance of 1e-8 only: steps that stay 0.2 m away are listed by themselves.

Controllers, without `--run`: no action; uniform random actions, held for 0.2 s; and a swing-up by
energy (K. J. Astrom, K. Furuta, Automatica 36, 2000, p. 287) that an LQR of our model takes over.
With `--run`, the last checkpoint of a run that was trained on separatrix/CartPoleSwingUp-v0.

    python benchmarks/dm_control_check.py --episodes 32
    python benchmarks/dm_control_check.py --run runs/CartPoleSwingUp-v0/sac/...
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import origin, save, use_threads
from torch import Tensor

from separatrix.agents.catalog import load_policy
from separatrix.agents.common.run import Run
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import bootstrap_interval
from separatrix.controllers.lqr import LQR
from separatrix.controllers.open_loop import RandomController, ZeroController
from separatrix.envs.core.registration import make_environment
from separatrix.envs.mechanics.cart_pole import OBSERVATION_SCALE, hinge_inertia
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.ode_system import OdeState

os.environ.setdefault("MUJOCO_GL", "disabled")  # nothing is drawn: no display is needed
from dm_control import suite

ID = "separatrix/CartPoleSwingUp-v0"
Make = Callable[[OdeEnvironment], Controller]


class EnergySwingUp(Controller):
    """Pumps energy into the pole until it stands, where an LQR takes over.

    The gains were chosen by hand on episodes of our environment.
    """

    def __init__(self, environment: OdeEnvironment) -> None:
        self._lqr = LQR(environment)
        p = {name: value.item() for name, value in environment.system.parameters.items()}
        self._inertia = hinge_inertia(p["pole_mass"], p["pole_length"], p["pole_radius"])
        self._weight = p["pole_mass"] * p["gravity"] * p["pole_length"] / 2

    def act(self, observation: Tensor, state: Any) -> Tensor:
        """Returns the motor signals, from the state alone."""
        position, angle, velocity, spin = state.values.T
        energy = self._inertia * spin**2 / 2 - self._weight * (1 - angle.cos())  # 0 upright
        pump = 8.0 * energy * spin * angle.cos() - 0.3 * position - 0.1 * velocity
        caught = (angle.cos() > 0.9) & (spin.abs() < 2.5)
        action = torch.where(caught, self._lqr.act(observation, state)[:, 0], pump)
        return action.clamp(-1.0, 1.0)[:, None]


@dataclass(frozen=True)
class SuiteEpisodes:
    """Episodes in dm_control.

    Attributes:
        starts: States that they started from, (episodes, 4).
        returns: Sums of the rewards, (episodes,).
        errors: Largest differences between its steps and ours, by name.
    """

    starts: Tensor
    returns: Tensor
    errors: dict[str, float]


def suite_episodes(environment: OdeEnvironment, controller: Controller) -> SuiteEpisodes:
    """Runs an episode for each row in dm_control, and all its steps in ours, too."""
    count = environment.num_envs
    rooms = [suite.load("cartpole", "swingup", {"random": seed}) for seed in range(count)]
    shown = [room.reset() for room in rooms]
    blank, _ = environment.reset(0)
    scale = torch.tensor(OBSERVATION_SCALE, dtype=torch.float64)
    rail = environment.system.parameters["rail"].item()

    def states() -> OdeState:
        rows = [np.concatenate((room.physics.data.qpos, room.physics.data.qvel)) for room in rooms]
        return replace(blank, values=torch.from_numpy(np.stack(rows)))

    def observations() -> Tensor:
        rows = [np.concatenate(list(step.observation.values())) for step in shown]
        return torch.from_numpy(np.stack(rows)) / scale

    controller.reset(torch.ones(count, dtype=torch.bool))
    state = states()
    starts, returns = state.values, torch.zeros(count, dtype=torch.float64)
    names = (
        "difference in observation",
        "difference in reward",
        "difference in state",
        "difference in state away from the stops",
        "change of a state in a step",
    )
    errors = dict.fromkeys(names, 0.0)
    while not shown[0].last():
        action = controller.act(observations(), state)
        expected = environment.step(state, action)
        shown = [room.step(row) for room, row in zip(rooms, action.numpy(), strict=True)]
        rewards = torch.tensor([step.reward for step in shown], dtype=torch.float64)
        returns += rewards
        before, state = state, states()
        off = (expected.state.values - state.values).abs().amax(1)
        near_stop = torch.maximum(before.values.abs(), state.values.abs())[:, 0] > rail - 0.2
        found = (
            (environment.observe(state) - observations()).abs(),
            (expected.reward - rewards).abs(),
            off,
            off.masked_fill(near_stop, 0.0),
            (state.values - before.values).abs(),
        )
        for name, values in zip(names, found, strict=True):
            errors[name] = max(errors[name], values.max().item())
    return SuiteEpisodes(starts, returns, errors)


def our_returns(environment: OdeEnvironment, controller: Controller, state: OdeState) -> Tensor:
    """Runs an episode for each row in our environment from given states."""
    controller.reset(torch.ones(environment.num_envs, dtype=torch.bool))
    observation = environment.observe(state)
    returns = torch.zeros(environment.num_envs, dtype=torch.float64)
    for _ in range(environment.horizon):
        state, observation, reward, terminated, _ = environment.step(
            state, controller.act(observation, state)
        )
        if terminated.any():
            raise RuntimeError("an episode of ours diverged, which dm_control's never do")
        returns += reward
    return returns


def compare(name: str, environment: OdeEnvironment, make: Make) -> dict[str, Any]:
    """Runs a controller in both and prints a row of the table."""
    theirs = suite_episodes(environment, make(environment))
    state, _ = environment.reset(0)
    own = our_returns(environment, make(environment), state)
    same = our_returns(environment, make(environment), replace(state, values=theirs.starts))
    columns = {"dm_control": theirs.returns, "ours": own, "difference": same - theirs.returns}
    row: dict[str, Any] = {"controller": name, "errors": theirs.errors}
    text = f"{name:14s}"
    for column, values in columns.items():
        mean, (low, high) = values.mean().item(), bootstrap_interval(values)
        row[column] = {"mean": mean, "interval": [low, high], "episodes": values.tolist()}
        style = "9.1e" if column == "difference" else "9.2f"
        text += f"  {mean:{style}} [{low:{style}}, {high:{style}}]"
    print(text)
    for quantity, value in theirs.errors.items():
        print(f"    largest {quantity}: {value:.1e}")
    return row


def checkpoint_controller(folder: Path) -> tuple[str, Make]:
    """The last policy of a run.

    Raises:
        ValueError: The run was trained on something else, or has no checkpoint.
    """
    run = Run.open(folder)
    config, checkpoint = run.config, run.latest_checkpoint()
    trained_on = config.environment
    if trained_on.id != ID or trained_on.wrappers or trained_on.options:
        raise ValueError(f"{folder}: got {trained_on}; allowed: {ID} without options or wrappers")
    if checkpoint is None:
        raise ValueError(f"{folder}: got a run without a checkpoint")
    name = config.agent.algorithm
    return name, lambda environment: load_policy(config, checkpoint, environment)


def main() -> None:
    """Runs the comparison and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, help="folder of a run; without it, the scripted ones")
    parser.add_argument("--episodes", type=int, default=32, help="of each controller and simulator")
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()
    use_threads(1)
    scripted: dict[str, Make] = {
        "zero": ZeroController,
        "random": lambda environment: RandomController(environment, seed=0, hold=20),
        "energy and LQR": EnergySwingUp,
    }
    chosen = scripted if arguments.run is None else dict([checkpoint_controller(arguments.run)])
    found = origin(["dm_control", "mujoco"])
    print(json.dumps(found, indent=1))
    environment: Any = make_environment(ID, arguments.episodes, dtype="float64")
    print(f"\nreturns of {arguments.episodes} episodes: mean and 95 % interval\n")
    print(f"{'controller':14s}{'dm_control':>24s}{'ours':>33s}{'difference':>33s}")
    with torch.no_grad():
        rows = [compare(name, environment, make) for name, make in chosen.items()]
    save(arguments.output, {**found, "controllers": rows})


if __name__ == "__main__":
    main()
