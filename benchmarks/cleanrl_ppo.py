"""Trains one of our environments with a PPO script of somebody else, run as it is.

Written for ppo_continuous_action.py of CleanRL (https://github.com/vwxyzjn/cleanrl, at fe8d8a03),
which knows nothing of this package: `gymnasium.make` imports it from the id. The script is of
Gymnasium 0.29, and two things have changed since that concern any environment:

- `TransformObservation` then took the space of the environment where none was given; here its
  argument gets this default back.
- episodes ended in `final_info`, where the script looks for their returns to log them; here the
  script's own `RecordEpisodeStatistics` is told to keep them all, and they are read in the end.

Gymnasium's vector environments now take one more step to restart, which the script takes for a
transition; that is left as it is. The script is not part of this repository:

    python benchmarks/cleanrl_ppo.py --script ppo_continuous_action.py

What follows `--` goes to the script, such as `-- --seed 2`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from harness import origin, save, use_threads

ALL = 10**9


def run_script(script: Path, arguments: list[str]) -> list[dict[str, float]]:
    """Runs a script as `python script.py arguments` in a folder that is then thrown away.

    Args:
        script: Path of the script; it must leave its vector environment in a global `envs`.
        arguments: Its command line.

    Returns:
        Return, length and last step (over all environments) of every episode, in order.
    """
    wrappers: Any = gymnasium.wrappers
    wrappers.TransformObservation = functools.partial(
        wrappers.TransformObservation, observation_space=None
    )
    wrappers.RecordEpisodeStatistics = functools.partial(
        wrappers.RecordEpisodeStatistics, buffer_length=ALL
    )
    sys.argv = [str(script), *arguments]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        envs = runpy.run_path(str(script), run_name="__main__")["envs"]
    episodes = []
    for env in envs.envs:
        returns = env.get_wrapper_attr("return_queue")
        lengths = env.get_wrapper_attr("length_queue")
        # A restart is a step of its own.
        ends = (np.cumsum(lengths) + np.arange(len(lengths))) * envs.num_envs
        for found in zip(map(float, returns), lengths, ends.tolist(), strict=True):
            episodes.append(dict(zip(("return", "length", "step"), found, strict=True)))
    return sorted(episodes, key=lambda episode: episode["step"])


def learning_curve(episodes: list[dict[str, float]], points: int) -> list[dict[str, float]]:
    """Means of successive groups of episodes."""
    return [
        {
            "step": group[-1]["step"],
            "episodes": len(group),
            "return": float(np.mean([episode["return"] for episode in group])),
        }
        for group in (list(part) for part in np.array_split(np.array(episodes), points))
    ]


def main() -> None:
    """Runs the script and prints the learning curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--env-id", default="separatrix:separatrix/Lorenz-v0")
    parser.add_argument("--total-timesteps", type=int, default=300_000)
    parser.add_argument("--points", type=int, default=10, help="of the learning curve")
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("rest", nargs="*", help="further arguments of the script, after --")
    chosen = parser.parse_args()
    use_threads(1)
    where = origin(["tyro", "tensorboard"])
    script, output = chosen.script.resolve(), chosen.output and chosen.output.resolve()
    arguments = ["--env-id", chosen.env_id, "--total-timesteps", str(chosen.total_timesteps)]
    episodes = run_script(script, [*arguments, *chosen.rest])
    curve = learning_curve(episodes, chosen.points)
    print(f"\n{script.name} on {chosen.env_id}, gymnasium {gymnasium.__version__}")
    print(f"{'step':>10} {'episodes':>10} {'mean return':>12}")
    for point in curve:
        print(f"{point['step']:10.0f} {point['episodes']:10.0f} {point['return']:12.1f}")
    result = {
        "script": script.name,
        "sha256": hashlib.sha256(script.read_bytes()).hexdigest(),
        "arguments": [*arguments, *chosen.rest],
        "learning_curve": curve,
    }
    save(output, where | result)


if __name__ == "__main__":
    main()
