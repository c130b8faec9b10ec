"""The imperfect models that the method is tried on.

Numbers 1 to 12 are the paper's and those of the code that its authors published. The same code
numbers spurious terms anew, 1 to 3 and 21 to 23 for each of the two terms; here they go on, 13 to
18 for u_xxx and 19 to 24 for u^2 u_x, each alone in three sizes, then with one term dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from separatrix.agents.medida.terms import KURAMOTO_SIVASHINSKY, Model, Term


@dataclass(frozen=True)
class Case:
    """An imperfect model of Kuramoto-Sivashinsky.

    Attributes:
        number: Its number.
        model: Coefficients of its terms.
    """

    number: int
    model: Model

    @property
    def error(self) -> dict[Term, float]:
        """The terms that the model lacks, on the right-hand side, with their coefficients."""
        terms = dict.fromkeys([*KURAMOTO_SIVASHINSKY, *self.model])
        found = {t: KURAMOTO_SIVASHINSKY.get(t, 0.0) - self.model.get(t, 0.0) for t in terms}
        return {term: coefficient for term, coefficient in found.items() if coefficient}


_SCALED = (  # of u u_x, u_xx, u_xxxx
    (0, 1, 1), (1, 0, 1), (1, 1, 0),  # dropped
    (1, 0, 0), (0, 1, 0), (0, 0, 1),  # two dropped
    (0.5, 1, 1), (1, 0.5, 1), (1, 1, 0.5), (2, 2, 2), (0, 0.5, 2), (0.5, 0, 1),  # wrong
)  # fmt: skip


def _all() -> Mapping[int, Case]:
    models: list[dict[Term, float]] = [
        {t: c * f for (t, c), f in zip(KURAMOTO_SIVASHINSKY.items(), factors, strict=True)}
        for factors in _SCALED
    ]
    for term, sizes, middle in (((0, 3), (0.1, 0.5, 1.0), 0.5), ((2, 1), (0.015, 0.15, 1.5), 0.15)):
        models += [{**KURAMOTO_SIVASHINSKY, term: -size} for size in sizes]
        models += [{**model, term: -middle} for model in models[:3]]
    return {number: Case(number, model) for number, model in enumerate(models, 1)}


CASES: Mapping[int, Case] = _all()
"""All cases by number, 1 to 24."""
