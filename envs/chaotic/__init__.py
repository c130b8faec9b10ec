"""Chaotic systems: flows and the tasks on them. Importing the package registers them."""

from separatrix.envs.chaotic import (
    chen,
    chua,
    duffing,
    henon,
    henon_heiles,
    hindmarsh_rose,
    lorenz,
    lorenz96,
    rossler,
    van_der_pol,
)

__all__ = [
    "chen",
    "chua",
    "duffing",
    "henon",
    "henon_heiles",
    "hindmarsh_rose",
    "lorenz",
    "lorenz96",
    "rossler",
    "van_der_pol",
]
