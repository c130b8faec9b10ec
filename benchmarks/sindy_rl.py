"""SINDy-RL beside other ways to the same return: tables over seeds, made of whole training runs.

    python benchmarks/sindy_rl.py cart-pole --output docs/results/sindy_rl_cart_pole.json
    python benchmarks/sindy_rl.py ablation --output docs/results/sindy_rl_ablation.json
    python benchmarks/sindy_rl.py swimmer --output docs/results/sindy_rl_swimmer.json
    python benchmarks/sindy_rl.py distillation --run runs/benchmark/cart_pole/SINDy-RL/0/...

Every row is a run of `separatrix train`, whose folder stays, so that a table that was interrupted
goes on where it was: finished runs are read, unfinished ones resumed. Returns are means over
evaluation episodes with deterministic actions, of which no agent sees anything. A run has reached a
return at the first evaluation from which it never falls below it by more than a tenth.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from harness import origin, save

from separatrix.agents.common.metrics import read_metrics
from separatrix.agents.common.run import Run
from separatrix.agents.sindy_rl.sparse_policy import SparsePolicy

SAC_CAP = ("--total-steps", "50000", "--evaluation.every", "2000")
"""SAC takes many updates a step, so that more steps would take longer than all else together."""

CONFIGS = Path(__file__).parents[1] / "configs" / "experiment"


@dataclass(frozen=True)
class Arm:
    """One row of a table.

    Attributes:
        name: What the row is called.
        config: Name of the experiment.
        changes: Changes of the command line.
        seeds: Number of runs.
    """

    name: str
    config: str
    changes: tuple[str, ...] = ()
    seeds: int = 5


def train(arm: Arm, seed: int, root: Path) -> Path:
    """Trains, goes on training, or finds a run that is finished.

    Returns:
        The folder of the run.
    """
    parent = root / arm.name.replace(" ", "_") / str(seed)
    (folder,) = list(parent.glob("*/*/*_s*")) or (None,)
    log = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "separatrix", "train"]
    if folder is None:
        command += [str(CONFIGS / f"{arm.config}.yaml"), "--root", str(parent)]
        command += ["--seed", str(seed), *arm.changes]
    elif finished(folder):
        return folder
    else:
        command += ["--resume", str(folder)]
    done = subprocess.run(command, env=environment, check=False, **log)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    (folder,) = parent.glob("*/*/*_s*")
    print(f"{arm.name}, seed {seed}: {curve(folder)[-1]}", flush=True)
    return folder


def finished(folder: Path) -> bool:
    """Tells whether the last checkpoint of a run is that of its last step."""
    run = Run.open(folder)
    checkpoint = run.latest_checkpoint()
    return checkpoint is not None and checkpoint.step >= run.config.total_steps


def curve(folder: Path) -> list[tuple[int, float]]:
    """Returns the evaluations of a run: real steps and mean return."""
    return read_metrics(folder / "metrics.csv").get("eval/return", [(0, float("nan"))])


def steps_to(evaluations: Sequence[tuple[int, float]], threshold: float) -> int | None:
    """Returns the real steps at which a return was reached for good; None if it was not."""
    for number, (step, value) in enumerate(evaluations):
        later = [value for _, value in evaluations[number:]]
        if value >= threshold and min(later) >= 0.9 * threshold:
            return step
    return None


def quartiles(values: Sequence[float]) -> list[float]:
    """Returns median and quartiles; infinity stands for runs that failed."""
    return [float(np.quantile(values, q, method="inverted_cdf")) for q in (0.5, 0.25, 0.75)]


def table(arms: Sequence[Arm], root: Path, workers: int, threshold: float) -> list[dict[str, Any]]:
    """Trains all runs, some side by side, and sums every arm up."""
    jobs = [(arm, seed) for arm in arms for seed in range(arm.seeds)]
    with ThreadPoolExecutor(workers) as pool:
        folders = list(pool.map(lambda job: train(*job, root), jobs))
    results = []
    for arm in arms:
        curves = {
            seed: curve(folder)
            for (owner, seed), folder in zip(jobs, folders, strict=True)
            if owner is arm
        }
        results.append(summary(arm.name, arm.config, arm.changes, curves, threshold))
    return results


def summary(
    name: str,
    config: str,
    changes: Sequence[str],
    curves: dict[int, list[tuple[int, float]]],
    threshold: float,
) -> dict[str, Any]:
    """Sums the runs of an arm up."""
    reached = [steps_to(found, threshold) for found in curves.values()]
    finals = [found[-1][1] for found in curves.values()]
    return {
        "name": name,
        "config": config,
        "changes": list(changes),
        "threshold": threshold,
        "total_steps": max(found[-1][0] for found in curves.values()),
        "seeds": len(curves),
        "failed": sum(step is None for step in reached),
        "steps": [step if np.isfinite(step) else None for step in _steps(reached)],
        "return": quartiles(finals),
        "steps_of_seeds": reached,
        "returns_of_seeds": finals,
        "curves": {str(seed): found for seed, found in curves.items()},
    }


def _steps(reached: Sequence[int | None]) -> list[float]:
    return quartiles([np.inf if step is None else step for step in reached])


def show(results: Sequence[dict[str, Any]]) -> None:
    """Prints a table."""
    threshold = results[0]["threshold"]
    print(f"{'':34}  seeds  failed  real steps to {threshold:g}: median [quartiles]   final return")

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:,.0f}"

    for row in results:
        steps, low, high = map(number, row["steps"])
        returns, bottom, top = row["return"]
        print(
            f"{row['name']:34}  {row['seeds']:5}  {row['failed']:6}  {steps:>12} "
            f"[{low}, {high}]{'':6}{returns:10.1f} [{bottom:.1f}, {top:.1f}] of "
            f"{row['total_steps']:,} steps"
        )


def finish(
    results: Sequence[dict[str, Any]], output: Path | None, workers: int, **others: Any
) -> None:
    """Prints and saves a table."""
    show(results)
    save(output, {**origin(), "workers": workers, **others, "results": list(results)})


def cart_pole(
    root: Path = Path("runs/benchmark"),
    workers: int = 2,
    seeds: int = 10,
    output: Path | None = None,
) -> None:
    """Real steps until the pole is swung up and balanced: 800 of at most 1000.

    Args:
        root: Folder of the runs.
        workers: Runs side by side, each with one thread.
        seeds: Runs of SINDy-RL; the others have a half to a tenth of them.
        output: JSON file for the results.
    """
    half, third, few, one = (max(1, seeds // part) for part in (2, 3, 5, 10))
    arms = [
        Arm("SINDy-RL", "sindy_rl_cartpole", seeds=seeds),
        Arm("SINDy-RL, analytic gradients", "sindy_rl_cartpole_analytic", seeds=half),
        Arm("PPO, as inside the loop", "cart_pole_ppo_scaled", seeds=third),
        Arm("PPO", "cart_pole_ppo", ("--evaluation.every", "20000"), third),
        Arm("SAC", "cart_pole_sac", SAC_CAP, third),
        Arm("the same loop, neural ensemble", "sindy_rl_cartpole_neural", seeds=few),
        Arm("MBPO", "mbpo_cartpole", seeds=one),
    ]
    results = table(arms, root / "cart_pole", workers, 800.0)
    finish(results + planners(root / "cart_pole", workers, third, one), output, workers)


def planners(root: Path, workers: int, neural: int, sparse: int) -> list[dict[str, Any]]:
    """ICEM in models that are learned while it plans, see `sindy_rl_planning.py`."""
    script = Path(__file__).with_name("sindy_rl_planning.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

    def plan(job: tuple[str, int]) -> list[tuple[int, float]]:
        kind, seed = job
        file = root / f"iCEM_{kind}" / f"{seed}.json"
        if not file.exists():
            command = [sys.executable, str(script), "--model", kind, "--seed", str(seed)]
            subprocess.run([*command, "--output", str(file)], env=environment, check=True)
        return [(step, value) for step, value in json.loads(file.read_text())["curve"]]

    results = []
    for kind, seeds in (("neural", neural), ("sparse", sparse)):
        jobs = [(kind, seed) for seed in range(seeds)]
        with ThreadPoolExecutor(workers) as pool:
            curves = dict(enumerate(pool.map(plan, jobs)))
        name = f"iCEM in a {kind} model"
        results.append(summary(name, script.name, [f"--model {kind}"], curves, 800.0))
    return results


def swimmer(
    root: Path = Path("runs/benchmark"),
    workers: int = 2,
    seeds: int = 3,
    output: Path | None = None,
) -> None:
    """Return of the swimmer against real steps; arguments as for the cart-pole."""
    arms = [
        Arm("SINDy-RL", "sindy_rl_swimmer", seeds=seeds),
        Arm("PPO", "swimmer_ppo", seeds=seeds),
    ]
    finish(table(arms, root / "swimmer", workers, 100.0), output, workers)


def ablation(
    root: Path = Path("runs/benchmark"),
    workers: int = 2,
    seeds: int = 5,
    output: Path | None = None,
) -> None:
    """What penalty, truncation and rollback change; arguments as for the cart-pole."""
    base = ("--total-steps", "5000")
    doubts = "--agent.uncertainty."
    variants: dict[str, tuple[str, ...]] = {
        "none of them": ("--agent.rollback", "0"),
        "penalty": ("--agent.rollback", "0", f"{doubts}penalty", "0.5"),
        "truncation": (
            "--agent.rollback",
            "0",
            f"{doubts}leverage-limit",
            "30",
            f"{doubts}deviation-limit",
            "0.3",
        ),
        "rollback": ("--agent.rollback", "0.5"),
    }
    arms = [
        Arm(name, "sindy_rl_cartpole_analytic", (*base, *changes), seeds)
        for name, changes in variants.items()
    ]
    finish(table(arms, root / "ablation", workers, 800.0), output, workers)


def distillation(run: Path, output: Path | None = None) -> None:
    """The policy of a run as a formula, and whether its C gives the same actions.

    Args:
        run: Folder of a run of SINDy-RL.
        output: JSON file for the results.
    """
    if not (run / "distillation.json").exists():
        subprocess.run([sys.executable, "-m", "separatrix", "distill", str(run)], check=True)
    report = json.loads((run / "distillation.json").read_text())
    teacher, student = report["real_return"].values()
    print(f"{report['terms']} terms, real return {student:.1f} of the teacher's {teacher:.1f}")
    print("\n".join(report["equations"]))
    report["ratio"] = student / teacher
    report["c_error"] = c_error(run)
    print(f"largest difference of actions between C and torch: {report['c_error']:.2g}")
    save(output, {**origin(), "run": run.name, **report})


def c_error(run: Path, rows: int = 10_000) -> float:
    """Compiles policy.c and compares its actions with those of policy.json, in float64."""
    policy = SparsePolicy.from_json((run / "policy.json").read_text())
    library = run / "policy.so"
    subprocess.run(
        ["cc", "-std=c99", "-shared", "-fPIC", str(run / "policy.c"), "-o", str(library), "-lm"],
        check=True,
    )
    size = len(policy.model.states)
    observation = 2 * np.random.default_rng(0).normal(size=(rows, size))
    expected = policy.act(torch.from_numpy(observation), None).numpy()
    found = np.empty_like(expected)
    act, pointer = ctypes.CDLL(str(library.resolve())).act, ctypes.POINTER(ctypes.c_double)
    for seen, action in zip(observation, found, strict=True):
        act(seen.ctypes.data_as(pointer), action.ctypes.data_as(pointer))
    return float(np.abs(found - expected).max())


COMMANDS: dict[str, Callable[..., None]] = {
    "cart-pole": cart_pole,
    "swimmer": swimmer,
    "ablation": ablation,
    "distillation": distillation,
}

if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(COMMANDS)
