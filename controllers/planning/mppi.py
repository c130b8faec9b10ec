"""Model-predictive path integral control."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.planning.gaussian import Gaussian
from separatrix.controllers.planning.noise import ColouredNoise
from separatrix.controllers.planning.planner import Planner, check, check_execute, check_whole
from separatrix.controllers.planning.sequences import Best
from separatrix.envs.core.environment import Environment


class MPPI(Planner):
    """Moves the plan to the mean of noisy plans, weighted by exp(return / temperature).

    G. Williams et al., "Information theoretic MPC for model-based reinforcement learning", ICRA
    2017, algorithm 2, with the reward as the only cost of control. Samples are clipped to [-1, 1].

    Args:
        model: See `Planner`.
        horizon: Steps of a plan.
        population: Number of samples of each environment and iteration.
        iterations: Number of populations.
        standard_deviation: Of the noise.
        noise_exponent: See `ColouredNoise`: the smoother good actions are, the larger; 0 is white.
        temperature: Difference of two returns at which their weights differ by the factor e.
        execute: "mean", the weighted one, or "best", of all samples.
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
        horizon: int = 30,
        population: int = 256,
        iterations: int = 1,
        standard_deviation: float = 0.2,
        noise_exponent: float = 0.0,
        temperature: float = 0.02,
        execute: str = "mean",
        discount: float = 1.0,
        warm_start: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model, horizon=horizon, discount=discount, warm_start=warm_start, seed=seed
        )
        check_whole(population=population, iterations=iterations)
        check("standard_deviation", standard_deviation, standard_deviation > 0, "a number > 0")
        check("noise_exponent", noise_exponent, noise_exponent >= 0, "a number >= 0")
        check("temperature", temperature, temperature > 0, "a number > 0")
        check_execute(execute)
        self.population, self.iterations = population, iterations
        self.standard_deviation, self.temperature = standard_deviation, temperature
        self.execute = execute
        self.noise = ColouredNoise(horizon, noise_exponent, self.generator, model.dtype)

    def search(
        self, state: Any, memory: Float[Tensor, "batch 1 horizon action"]
    ) -> tuple[Float[Tensor, "batch horizon action"], Float[Tensor, "batch 1 horizon action"]]:
        """Returns the weighted mean or the best sample, and keeps the mean."""
        mean = memory[:, 0]
        best = Best.before(mean)
        for _ in range(self.iterations):
            noise = self.noise(len(memory), self.population, self.num_actions)
            candidates = Gaussian.around(mean, self.standard_deviation).sample(noise)
            returns = self.returns(state, candidates)
            best = best.update(candidates, returns)
            weight = torch.softmax(returns / self.temperature, 1)
            moved = torch.einsum("bp,bpha->bha", weight, candidates)
            # Where every return is -inf the weights are NaN, and the plan stays.
            mean = torch.where(returns.isfinite().any(1)[:, None, None], moved, mean)
        return best.sequence if self.execute == "best" else mean, mean[:, None]
