"""Policies that are a sparse model: a handful of terms to read, and to run anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from separatrix.agents.common.sparse.library import Library
from separatrix.agents.common.sparse.model import SparseModel
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.environment import Environment

ROWS = 4096
"""Episodes that run side by side when many policies are judged."""

_NUMPY_ACT = '''

def act(observation):
    """Actions (..., action) in [-1, 1] of observations (..., observation)."""
    return np.clip(step(observation), -1.0, 1.0)
'''

_C_ACT = """
// action[{count}] in [-1, 1] of an observation
void act(const double *observation, double *action)
{{
    step(observation, 0, action);
    for (int i = 0; i < {count}; i++)
        action[i] = action[i] < -1.0 ? -1.0 : action[i] > 1.0 ? 1.0 : action[i];
}}
"""


@dataclass(frozen=True, eq=False)
class SparsePolicy(Controller):
    """The action clip(model(observation), -1, 1).

    Attributes:
        model: Its inputs are the components of the observation, its targets those of the action.

    Raises:
        ValueError: The model has controls.
    """

    model: SparseModel

    def __post_init__(self) -> None:
        if self.model.controls:
            raise ValueError(
                f"model: got controls {self.model.controls!r}; allowed: a model of observations"
            )

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the model's actions, clipped; the state is not read."""
        return self.model.predict(observation).clamp(-1.0, 1.0)

    @property
    def num_terms(self) -> int:
        """Number of coefficients that are not zero."""
        return int((self.model.coefficients != 0).sum())

    def equations(self, digits: int = 4) -> tuple[str, ...]:
        """Returns every component as text, such as `u = clip(-2 x + 0.1 x^3, -1, 1)`."""
        split = (line.split(" = ", 1) for line in self.model.equations(digits))
        return tuple(f"{target} = clip({terms}, -1, 1)" for target, terms in split)

    def to_json(self) -> str:
        """Returns the model as JSON, see `SparseModel.to_json`."""
        return self.model.to_json()

    @classmethod
    def from_json(cls, text: str) -> SparsePolicy:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: The text is no sparse model, or one with controls.
        """
        return cls(SparseModel.from_json(text))

    def to_numpy_source(self) -> str:
        """Returns a Python module, which needs NumPy alone, with the policy: `act(observation)`."""
        return self.model.to_numpy_source() + _NUMPY_ACT

    def to_c_source(self) -> str:
        """Returns C99 with `void act(const double *observation, double *action)`.

        The two must not overlap. Link with -lm.
        """
        # Static, for the C library has a `step` of its own, which a shared library would call.
        source = self.model.to_c_source().replace("\nvoid step(", "\nstatic void step(")
        return source + _C_ACT.format(count=len(self.model.targets))


class Policies(Controller):
    """Sparse policies over one library, each for as many consecutive rows of the batch.

    Args:
        library: The features of all policies.
        coefficients: The policies.
    """

    def __init__(
        self, library: Library, coefficients: Float[Tensor, "policies action features"]
    ) -> None:
        self._library, self._coefficients = library, coefficients

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the clipped actions of every policy for its rows; the state is not read."""
        features = self._library.flat_rows(observation)
        features = features.unflatten(1, (len(self._coefficients), -1)).transpose(0, 1)
        actions = self._coefficients.to(features) @ features
        return actions.transpose(1, 2).flatten(0, 1).clamp(-1.0, 1.0)


def returns_of(
    environment: Environment,
    library: Library,
    coefficients: Float[Tensor, "policies action features"],
    seeds: Int[Tensor, " episodes"],
) -> Float[Tensor, " policies"]:
    """Mean returns of many sparse policies, all on the same episodes, in large batches.

    Args:
        environment: Pure environment that steps batches of any size.
        library: The features of all policies.
        coefficients: The policies.
        seeds: One seed for each episode, int64.

    Returns:
        Means in float64 on the CPU; minus infinity in place of NaN.
    """
    means = []
    for block in coefficients.split(max(1, ROWS // len(seeds))):
        policies = Policies(library, block)
        found = evaluate(environment, policies, seeds.repeat(len(block)))
        means.append(found.returns.view(len(block), -1).mean(1))
    return torch.cat(means).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
