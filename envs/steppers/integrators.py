"""Explicit Runge-Kutta schemes with a fixed step, as data.

A scheme with matrix `a` and weights `b` advances x' = f(x) by one step h through

    k_i = f(x + h sum_j a_ij k_j),    x <- x + h sum_i b_i k_i.

Sources: Euler, Heun (1900) and Kutta's classical scheme (1901) as in Hairer, Norsett, Wanner,
Solving Ordinary Differential Equations I, sec. II.1; Tsit5 from Ch. Tsitouras, Comput. Math. Appl.
62 (2011) 770, table 1 (its fifth-order weights; the seventh stage serves error estimates only).

A map x <- f(x) is stepped by the scheme `MAP`, whose only slope replaces the state.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Tableau:
    """One explicit Runge-Kutta scheme.

    Attributes:
        name: The name it is chosen by.
        order: Its order of convergence.
        a: Strictly lower triangular matrix, row i holding i coefficients.
        b: Weights of the stages.
        replaces: Whether the slope, then the only one, replaces the state: a map.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    replaces: bool = False


_SCHEMES = (
    Tableau("euler", 1, ((),), (1.0,)),
    Tableau("heun", 2, ((), (1.0,)), (1 / 2, 1 / 2)),
    Tableau(
        "rk4",
        4,
        ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
    Tableau(
        "tsit5",
        5,
        (
            (),
            (0.161,),
            (-0.008480655492356989, 0.335480655492357),
            (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
            (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
            (
                5.86145544294642,
                -12.92096931784711,
                8.159367898576159,
                -0.071584973281401,
                -0.028269050394068383,
            ),
        ),
        (
            0.09646076681806523,
            0.01,
            0.4798896504144996,
            1.379008574103742,
            -3.290069515436081,
            2.324710524099774,
        ),
    ),
)

INTEGRATORS = {scheme.name: scheme for scheme in _SCHEMES}
MAP = Tableau("map", 0, ((),), (1.0,), replaces=True)


def tableau(name: str) -> Tableau:
    """Looks a scheme up by name; "map" is the scheme of maps.

    Raises:
        ValueError: The name is unknown.
    """
    if name == MAP.name:
        return MAP
    if not isinstance(name, str) or name not in INTEGRATORS:
        raise ValueError(
            f"unknown integrator {reprlib.repr(name)}; allowed: {', '.join(INTEGRATORS)}"
        )
    return INTEGRATORS[name]
