"""What the clamp of MOREC's dynamics reward refuses: as published, and ours.

A model and a discriminator learn from a data set, with the sizes of the short study. On transitions
that neither has seen, shares that the filter refuses are measured of the recorded ones, of what the
model proposes in their place, and of recorded ones whose next observation was moved in a random
direction by so many standard deviations of the changes. Proposals are counted one by one; in
rollouts the filter chooses among several, and refuses fewer.

    separatrix collect pendulum
    python benchmarks/offline_floor.py --output docs/results/offline_floor.json
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import origin, save, use_threads
from offline import SMALL, SMALL_FILTER

from separatrix.agents.offline.config import MopoConfig, OfflineConfig
from separatrix.agents.offline.data.files import load_dataset
from separatrix.agents.offline.model.experience import ModelExperience
from separatrix.agents.offline.model.learned_dynamics import hold_out
from separatrix.envs.core.registration import make_environment

DISTANCES = (0.01, 0.03, 0.1, 0.3, 1.0)


def measure(folder: Path, floor: str, seed: int) -> dict[str, Any]:
    """Learns, and measures the shares that are refused."""
    dataset = load_dataset(folder)
    method = SMALL["MOREC-MOPO"]
    assert isinstance(method, MopoConfig)
    reward = replace(SMALL_FILTER.reward, floor=floor)
    method = replace(method, filter=replace(SMALL_FILTER, reward=reward))
    environment = make_environment(dataset.metadata.environment, 1)
    config = OfflineConfig(str(folder), method=method)
    experience = ModelExperience(dataset, environment, config, seed)
    experience.prepare()
    chosen = experience.transition_filter
    assert chosen is not None
    known = dataset.transitions()
    some = known[hold_out(dataset)[1].nonzero()[:, 0]]
    before, truth = (some.observation, some.action), some.next_observation
    generator = torch.Generator().manual_seed(seed)

    def refused(following: torch.Tensor) -> float:
        below = chosen.reward.reward(*before, following) < chosen.config.threshold
        return below.double().mean().item()

    direction = torch.randn(truth.shape, generator=generator)
    direction /= direction.norm(dim=1, keepdim=True) / direction.shape[1] ** 0.5
    unit = (known.next_observation - known.observation).std(0)
    return {
        "floor": floor,
        "seed": seed,
        "recorded": refused(truth[None]),
        "proposed": refused(experience.dynamics.propose(*before, 2, generator).next_observation),
        "moved": {d: refused((truth + d * unit * direction)[None]) for d in DISTANCES},
    }


def main() -> None:
    """Measures both clamps and writes them down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--dataset", type=Path, default=Path("datasets/pendulum/medium"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    use_threads(1)
    rows = []
    for floor in ("generated", "recorded"):
        for seed in arguments.seeds:
            rows.append(measure(arguments.dataset, floor, seed))
            print(rows[-1], flush=True)
    save(arguments.output, {**origin(), "dataset": str(arguments.dataset), "rows": rows})


if __name__ == "__main__":
    main()
