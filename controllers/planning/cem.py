"""The cross-entropy method."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.planning.gaussian import Gaussian
from separatrix.controllers.planning.noise import ColouredNoise
from separatrix.controllers.planning.planner import Planner, check, check_execute, check_whole
from separatrix.controllers.planning.sequences import Best, best_of
from separatrix.envs.core.environment import Environment


class CEM(Planner):
    """Fits a diagonal normal distribution to the best of its samples, again and again.

    R. Y. Rubinstein, Methodol. Comput. Appl. Probab. 1 (1999) 127; as a planner with learned
    models: K. Chua et al., "PETS", NeurIPS 2018. Samples are clipped to [-1, 1].

    Args:
        model: See `Planner`.
        horizon: Steps of a plan.
        population: Number of samples of each environment and iteration.
        elites: Number of best samples to fit.
        iterations: Number of populations.
        standard_deviation: Of the first population.
        min_standard_deviation: Smallest of the later ones.
        smoothing: Share of the old mean and deviation in the new ones, in [0, 1).
        execute: "mean", of the last fit, which exploits the errors of a learned model less, or
            "best", of all samples.
        discount: See `Planner`.
        warm_start: See `Planner`; the mean of the last plan is where the next one begins.
        seed: See `Planner`.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        model: Environment,
        *,
        horizon: int = 20,
        population: int = 500,
        elites: int = 40,
        iterations: int = 5,
        standard_deviation: float = 1.0,
        min_standard_deviation: float = 0.05,
        smoothing: float = 0.1,
        execute: str = "mean",
        discount: float = 1.0,
        warm_start: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model, horizon=horizon, discount=discount, warm_start=warm_start, seed=seed
        )
        check_whole(population=population, elites=elites, iterations=iterations)
        check("elites", elites, elites <= population, f"at most the population, {population}")
        check_deviations(standard_deviation, min_standard_deviation)
        check("smoothing", smoothing, 0 <= smoothing < 1, "a number in [0, 1)")
        check_execute(execute)
        self.population, self.elites, self.iterations = population, elites, iterations
        self.standard_deviation = standard_deviation
        self.min_standard_deviation, self.smoothing = min_standard_deviation, smoothing
        self.execute = execute
        self.noise = ColouredNoise(horizon, 0.0, self.generator, model.dtype)

    def search(
        self, state: Any, memory: Float[Tensor, "batch 1 horizon action"]
    ) -> tuple[Float[Tensor, "batch horizon action"], Float[Tensor, "batch 1 horizon action"]]:
        """Returns the last mean or the best sample, and keeps the mean."""
        gaussian = Gaussian.around(memory[:, 0], self.standard_deviation)
        best = Best.before(gaussian.mean)
        for _ in range(self.iterations):
            noise = self.noise(len(memory), self.population, self.num_actions)
            candidates = gaussian.sample(noise)
            returns = self.returns(state, candidates)
            best = best.update(candidates, returns)
            elites = best_of(candidates, returns, self.elites)
            gaussian = gaussian.refit(*elites, self.smoothing, self.min_standard_deviation)
        chosen = best.sequence if self.execute == "best" else gaussian.mean
        return chosen, gaussian.mean[:, None]


def check_deviations(standard_deviation: float, min_standard_deviation: float) -> None:
    """Raises ValueError if these are not deviations to start with and to stop at."""
    check("standard_deviation", standard_deviation, standard_deviation > 0, "a number > 0")
    allowed = 0 <= min_standard_deviation <= standard_deviation
    meaning = f"a number >= 0, and at most the standard deviation, {standard_deviation}"
    check("min_standard_deviation", min_standard_deviation, allowed, meaning)
