"""The improved cross-entropy method."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.planning.cem import check_deviations
from separatrix.controllers.planning.gaussian import Gaussian
from separatrix.controllers.planning.noise import ColouredNoise
from separatrix.controllers.planning.planner import Planner, check, check_execute, check_whole
from separatrix.controllers.planning.sequences import Best, best_of
from separatrix.envs.core.environment import Environment


class ICEM(Planner):
    """The cross-entropy method with coloured noise, kept elites and a shrinking population.

    C. Pinneri et al., "Sample-efficient cross-entropy method for real-time planning", CoRL 2020,
    algorithm 1. Iteration i evaluates max(2 elites, population decay^-i) sequences: kept elites of
    the iteration before (in the first one: of the last step, one step later), in the last iteration
    the mean, and for the rest samples, clipped to [-1, 1].

    Args:
        model: See `Planner`.
        horizon: Steps of a plan.
        population: Number of sequences of each environment in the first iteration.
        decay: Factor by which the population shrinks from iteration to iteration; 1 keeps it.
        elites: Number of best sequences to fit.
        kept_fraction: Share of the elites that the next population holds, in [0, 1].
        iterations: Number of populations.
        noise_exponent: See `ColouredNoise`: the smoother good actions are, the larger; 0 is white.
        standard_deviation: Of the first population.
        min_standard_deviation: Smallest of the later ones.
        smoothing: Share of the old mean and deviation in the new ones, in [0, 1).
        execute: "best", of all sequences, or "mean", of the last fit, which exploits the errors of
            a learned model less.
        discount: See `Planner`.
        warm_start: See `Planner`; the mean and the kept elites go from plan to plan.
        seed: See `Planner`.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        model: Environment,
        *,
        horizon: int = 30,
        population: int = 64,
        decay: float = 1.25,
        elites: int = 10,
        kept_fraction: float = 0.3,
        iterations: int = 3,
        noise_exponent: float = 2.0,
        standard_deviation: float = 0.5,
        min_standard_deviation: float = 0.0,
        smoothing: float = 0.1,
        execute: str = "best",
        discount: float = 1.0,
        warm_start: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model, horizon=horizon, discount=discount, warm_start=warm_start, seed=seed
        )
        check_whole(population=population, elites=elites, iterations=iterations)
        check("elites", elites, 2 * elites <= population, f"at most half of {population}")
        check("decay", decay, decay >= 1, "a number >= 1")
        check("kept_fraction", kept_fraction, 0 <= kept_fraction <= 1, "a number in [0, 1]")
        check("noise_exponent", noise_exponent, noise_exponent >= 0, "a number >= 0")
        check_deviations(standard_deviation, min_standard_deviation)
        check("smoothing", smoothing, 0 <= smoothing < 1, "a number in [0, 1)")
        check_execute(execute)
        self.populations = [
            max(2 * elites, round(population * decay**-i)) for i in range(iterations)
        ]
        self.elites, self.kept = elites, round(kept_fraction * elites)
        self.standard_deviation = standard_deviation
        self.min_standard_deviation, self.smoothing = min_standard_deviation, smoothing
        self.execute = execute
        self.noise = ColouredNoise(horizon, noise_exponent, self.generator, model.dtype)

    def initial_memory(self, batch: int) -> Float[Tensor, "batch kept horizon action"]:
        """Returns the mean zero, and samples in place of elites, of which there are none yet."""
        mean = super().initial_memory(batch)
        noise = self.noise(batch, self.kept, self.num_actions)
        samples = Gaussian.around(mean[:, 0], self.standard_deviation).sample(noise)
        return torch.cat((mean, samples), 1)

    def search(
        self, state: Any, memory: Float[Tensor, "batch kept horizon action"]
    ) -> tuple[Float[Tensor, "batch horizon action"], Float[Tensor, "batch kept horizon action"]]:
        """Returns the best sequence or the last mean, and keeps the mean and the best elites."""
        gaussian = Gaussian.around(memory[:, 0], self.standard_deviation)
        known = memory[:, 1:]
        best = Best.before(gaussian.mean)
        for iteration, population in enumerate(self.populations, 1):
            if iteration == len(self.populations):
                known = torch.cat((gaussian.mean[:, None], known), 1)
            noise = self.noise(len(memory), population - known.shape[1], self.num_actions)
            candidates = torch.cat((known, gaussian.sample(noise)), 1)
            returns = self.returns(state, candidates)
            best = best.update(candidates, returns)
            elites = best_of(candidates, returns, self.elites)
            gaussian = gaussian.refit(*elites, self.smoothing, self.min_standard_deviation)
            known = elites[0][:, : self.kept]
        chosen = best.sequence if self.execute == "best" else gaussian.mean
        return chosen, torch.cat((gaussian.mean[:, None], known), 1)
