"""The loop: fit a model, train a policy in it, let the policy act in reality, and again.

Dyna (R. S. Sutton, SIGART Bulletin 2 (1991) 160) as SINDy-RL has it: a policy learns in the
surrogate alone, and every model is fitted from scratch to all real transitions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from separatrix.agents.common.checkpoint import prefixed, with_prefix
from separatrix.agents.common.collector import Collector
from separatrix.agents.common.policy_learner import PolicyLearner, Snapshot
from separatrix.agents.common.replay import ReplayBuffer, Transitions
from separatrix.agents.common.seeding import training_seed
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.sindy_rl.config import SindyRLConfig, SparseModelConfig
from separatrix.agents.sindy_rl.exploration import Exploration
from separatrix.agents.sindy_rl.learner import make_learner
from separatrix.agents.sindy_rl.modelling import Modelling
from separatrix.agents.sindy_rl.population import draw, perturb, replacements, tunable
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.actions import require_continuous
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment


@dataclass
class Member:
    """A policy, the real environments in which it acts, and what they gave."""

    learner: PolicyLearner
    """Trains the policy."""

    buffer: ReplayBuffer
    """Real transitions."""

    collector: Collector
    """Takes real steps."""

    best: Snapshot
    """The policy whose collection had the largest return."""

    best_return: float = -torch.inf
    """That return."""

    last_return: float = -torch.inf
    """Return of the last collection."""


class Loop:
    """The real environments, the data, the model and the policies of a run.

    Args:
        config: The experiment, whose agent is a `SindyRLConfig`.

    Attributes:
        environment: One real environment for each member's batch, of which the model is one.
        modelling: The model and its surrogate.
        members: The policies, one but for population-based training.
        rounds: Rounds that are done.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.agent, SindyRLConfig)
        self.config, self.agent = config, config.agent
        agent, population = config.agent, config.agent.population
        self._num_envs, rest = divmod(config.environment.num_envs, population.members)
        if rest or not self._num_envs:
            raise ValueError(
                f"environment.num_envs: got {config.environment.num_envs}; allowed: multiples of "
                f"agent.population.members = {population.members}"
            )
        self.environment = make_environment(
            config.environment.id, self._num_envs, **config.environment.arguments()
        )
        self._check(self.environment)
        self.random = random.Random(config.seed)
        self.rounds, self.surrogate_steps, self.rollbacks = 0, 0, 0
        self.modelling = Modelling(agent, self.environment, config.seed)
        self.policies, self._ranges = [agent.policy] * population.members, {}
        if population.members > 1:
            self._ranges = tunable(population, agent.policy)
            self.policies = [draw(self._ranges, agent.policy, self.random) for _ in self.policies]
        self.members = [self._member(number) for number in range(population.members)]

    def _check(self, environment: Environment) -> None:
        """Refuses what does not fit the environment."""
        require_continuous(environment, "sindy_rl")
        size = environment.observation_space.shape[0]
        surrogate, model = self.agent.surrogate, self.agent.model
        if len(surrogate.limits) not in (0, size):
            raise ValueError(f"surrogate.limits: got {surrogate.limits}; allowed: {size} or none")
        indices = {"circles": [i for pair in surrogate.circles for i in pair]}
        indices["wrapped"] = list(surrogate.wrapped)
        if isinstance(model, SparseModelConfig):
            indices["model.angles"] = list(model.angles)
            if model.names and len(model.names) != size:
                raise ValueError(f"model.names: got {model.names}; allowed: {size} names or none")
        for name, found in indices.items():
            if not set(found) <= set(range(size)):
                raise ValueError(f"{name}: got {found}; allowed: components 0 to {size - 1}")
        if model.reward == "known":
            _, observation = environment.reset(0)
            action = observation.new_zeros((self._num_envs, *environment.action_shape))
            environment.known_outcome(observation, action, observation)
        if self.agent.uncertainty.refit_above and (
            self.agent.collection.capacity < self.config.total_steps
        ):
            raise ValueError(
                "collection.capacity: with refit_above at least total_steps is allowed"
            )

    def _member(self, number: int) -> Member:
        environment, collection = self.environment, self.agent.collection
        capacity = -(-collection.capacity // self._num_envs) * self._num_envs
        buffer = ReplayBuffer(
            environment.observation_space.shape[0],
            environment.action_shape[0],
            capacity=capacity,
            num_envs=self._num_envs,
            device=environment.device,
            dtype=environment.dtype,
        )
        first = training_seed(self.config.seed) + number * self._num_envs
        collector = Collector(environment, buffer, first)
        rounds = -(-self.config.total_steps // collection.steps)
        learner = make_learner(
            self.policies[number],
            self.modelling.surrogate,
            self.config.seed * 1000 + number,
            self.agent.policy_steps * rounds,
        )
        return Member(learner, buffer, collector, learner.state_dict())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the components of the observation."""
        names = getattr(self.agent.model, "names", ())
        size = self.environment.observation_space.shape[0]
        return names or tuple(f"x{i}" for i in range(size))

    @property
    def steps(self) -> int:
        """Real steps taken."""
        return sum(member.buffer.added for member in self.members)

    def begin(self) -> None:
        """Takes the first real steps, with random actions."""
        collection = self.agent.collection
        steps = -(-collection.initial_steps // (self._num_envs * len(self.members)))
        for number, member in enumerate(self.members):
            controller = RandomController(
                self.environment, self.config.seed * 1000 + number, collection.initial_hold
            )
            chunk = min(collection.initial_reset or steps, steps)
            for _ in range(-(-steps // chunk)):
                member.collector.collect(controller, chunk, cut=True)

    def round(self) -> dict[str, float]:
        """Fits, trains, collects, and decides which policies go on.

        Returns:
            Scalars for the log.
        """
        scalars = self.modelling.fit(self.data(), self.rounds)
        for number, member in enumerate(self.members):
            found = member.learner.train(self.modelling.surrogate, self.agent.policy_steps)
            self.surrogate_steps += self.agent.policy_steps
            tag = "train/" if len(self.members) == 1 else f"train_{number}/"
            scalars |= {name.replace("train/", tag): value for name, value in found.items()}
        scalars |= self._collect()
        self.rounds += 1
        population = self.agent.population
        if len(self.members) > 1 and self.rounds % population.every == 0:
            self._exploit()
        scalars["surrogate/steps"] = float(self.surrogate_steps)
        return scalars

    def deployed(self) -> tuple[int, Snapshot]:
        """Returns which member's policy is kept, and that policy."""
        if not self.agent.select:
            number = max(range(len(self.members)), key=lambda i: self.members[i].last_return)
            return number, self.members[number].learner.state_dict()
        number = max(range(len(self.members)), key=lambda i: self.members[i].best_return)
        return number, self.members[number].best

    def data(self, last: int | None = None) -> Transitions:
        """Returns the real transitions, (times, environments, ...), or the last times of them."""
        parts = [member.buffer.ordered() for member in self.members]
        if last is not None:
            parts = [part[-last:] for part in parts]
        found = (
            torch.cat([getattr(part, field.name) for part in parts], 1)
            for field in fields(parts[0])
        )
        return Transitions(*found)

    def _collect(self) -> dict[str, float]:
        """Takes real steps with every policy, keeps the best, and goes back where one is lost."""
        agent, collection = self.agent, self.agent.collection
        steps = -(-collection.steps // (self._num_envs * len(self.members)))
        for number, member in enumerate(self.members):
            explorer = Exploration(
                member.learner.controller(),
                self.modelling.dynamics,
                noise=collection.noise,
                hold=collection.noise_hold,
                candidates=agent.uncertainty.candidates,
                seed=(self.config.seed * 1000 + number) * 10_007 + self.rounds,
            )
            member.collector.collect(explorer, steps, cut=True)
            member.last_return = self._return(member.buffer.ordered()[-steps:])
            if member.last_return > member.best_return:
                member.best, member.best_return = member.learner.state_dict(), member.last_return
            elif agent.rollback and self._lost(member):
                member.learner.take_policy(member.best)
                self.rollbacks += 1
        returns = [member.last_return for member in self.members]
        return {
            "collect/return": sum(returns) / len(returns),
            "collect/best": max(member.best_return for member in self.members),
            "collect/rollbacks": float(self.rollbacks),
            **self.modelling.check(self.data(last=steps), self.data()),
        }

    def _lost(self, member: Member) -> bool:
        """Tells whether a policy does so much worse than its best that it goes back to that."""
        tolerated = (1 - self.agent.rollback) * abs(member.best_return)
        return member.best_return - member.last_return > tolerated

    def _return(self, collected: Transitions) -> float:
        """Return of a collection: the sum of rewards of an episode, or what it would come to.

        Episodes that were cut off count by their mean reward, as if they had gone on so.
        """
        ends = collected.terminated.sum()
        total = collected.reward.sum()
        horizon = self.environment.horizon
        if ends:  # a terminated episode is over: its reward cannot be extrapolated
            return (total / collected.last.sum()).item()
        return (total / collected.reward.numel() * horizon).item()

    def _exploit(self) -> None:
        population = self.agent.population
        returns = [member.last_return for member in self.members]
        for worst, best in replacements(returns, population.quantile, self.random).items():
            member = self.members[worst]
            member.learner.take_policy(self.members[best].learner.state_dict())
            self.policies[worst] = perturb(
                self._ranges, self.policies[best], population.resample, self.random
            )
            member.learner.configure(self.policies[worst])

    def state_dict(self) -> Snapshot:
        """Returns everything that determines the rounds to come, as copies."""
        tensors: dict[str, Tensor] = {}
        state: dict[str, Any] = {
            "rounds": self.rounds,
            "surrogate_steps": self.surrogate_steps,
            "rollbacks": self.rollbacks,
            "modelling": self.modelling.state(),
            "random": self.random.getstate(),
            "members": [],
        }
        for number, member in enumerate(self.members):
            learner, best = member.learner.state_dict(), member.best
            parts = {"learner": learner[0], "best": best[0]}
            parts |= {"buffer": member.buffer.state_dict()}
            parts |= {"collector": member.collector.state_dict()}
            for name, found in parts.items():
                tensors |= prefixed(f"member{number}.{name}", found)
            state["members"].append(
                {
                    "learner": learner[1],
                    "best": best[1],
                    "returns": [_finite(member.best_return), _finite(member.last_return)],
                    "policy": {name: getattr(self.policies[number], name) for name in self._ranges},
                }
            )
        return {name: tensor.clone() for name, tensor in tensors.items()}, state

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned, for the same configuration."""
        self.rounds, self.rollbacks = state["rounds"], state["rollbacks"]
        self.surrogate_steps = state["surrogate_steps"]
        version, keys, gauss = state["random"]
        self.random.setstate((version, tuple(keys), gauss))
        for number, member in enumerate(self.members):
            part, saved = with_prefix(f"member{number}", tensors), state["members"][number]
            if len(self.members) > 1:
                self.policies[number] = replace(self.policies[number], **saved["policy"])
                member.learner.configure(self.policies[number])
            member.learner.load_state_dict(with_prefix("learner", part), saved["learner"])
            member.best = (with_prefix("best", part), saved["best"])
            member.best_return, member.last_return = (
                -math.inf if found is None else found for found in saved["returns"]
            )
            member.buffer.load_state_dict(with_prefix("buffer", part))
            member.collector.load_state_dict(with_prefix("collector", part))
        self.modelling.restore(self.data(), state["modelling"])


def _finite(value: float) -> float | None:
    """A return as JSON has it: none for minus infinity."""
    return value if math.isfinite(value) else None
