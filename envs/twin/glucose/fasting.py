"""Fasting states: what a patient rests in under constant basal insulin, long after any meal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.twin.glucose.model import UNIT

Parameters = Mapping[str, Float[Tensor, " rows"]]
HALVINGS = 60
"""Of an interval whose end is found by bisection; float64 has 52 bits."""


def fasting_state(
    parameters: Parameters, basal: Float[Tensor, " _"]
) -> Float[Tensor, "patient compartment"]:
    """Returns the compartments at rest under basal insulin.

    Plasma glucose is sought between 1 and 1000 mg/dL, and ends there if no rest is between.

    Args:
        parameters: Of the patients, float64.
        basal: Insulin in U/h.
    """
    p = parameters
    infused = basal / 60 * UNIT / p["BW"]
    plasma = infused / _clearance(p)
    insulin = plasma / p["Vi"]

    def surplus(glucose: Tensor) -> Tensor:
        return _surplus(p, glucose * p["Vg"], insulin)[0]

    glucose = _zero(surplus, 1.0, 1000.0, basal + p["BW"]) * p["Vg"]
    tissue = _surplus(p, glucose, insulin)[1]
    skin1 = infused / (p["ka1"] + p["kd"])
    skin2 = p["kd"] * skin1 / p["ka2"]
    liver = p["m2"] * plasma / (p["m1"] + p["m30"])
    rest = torch.zeros_like(glucose)
    found = (rest, rest, rest, glucose, tissue, plasma, insulin - p["Ib"], insulin, insulin)
    return torch.stack(torch.broadcast_tensors(*found, liver, skin1, skin2, glucose), -1)


def basal_insulin(
    parameters: Parameters, fasting_glucose: Float[Tensor, " _"]
) -> Float[Tensor, " patient"]:
    """Returns the insulin in U/h under which patients rest at a glucose.

    Args:
        parameters: Of the patients, float64.
        fasting_glucose: In mg/dL.

    Raises:
        ValueError: No insulin below 2000 pmol/l in plasma does.
    """
    p = parameters
    glucose = fasting_glucose * p["Vg"]

    def surplus(insulin: Tensor) -> Tensor:
        return _surplus(p, glucose, insulin)[0]

    insulin = _zero(surplus, 0.0, 2000.0, glucose + p["BW"])
    if not ((insulin > 1e-3) & (insulin < 1999)).all():
        raise ValueError("no basal insulin keeps these patients at their fasting glucose")
    return insulin * p["Vi"] * _clearance(p) * p["BW"] / UNIT * 60


def _clearance(p: Parameters) -> Tensor:
    """What leaves plasma for good, per minute: degradation there and in the liver."""
    return p["m2"] + p["m4"] - p["m1"] * p["m2"] / (p["m1"] + p["m30"])


def _surplus(p: Parameters, glucose: Tensor, insulin: Tensor) -> tuple[Tensor, Tensor]:
    """Returns production less consumption, and tissue glucose if plasma glucose is at rest."""
    production = (p["kp1"] - p["kp2"] * glucose - p["kp3"] * insulin).clamp_min(0)
    spent = p["Fsnc"] + p["ke1"] * (glucose - p["ke2"]).clamp_min(0)
    tissue = ((p["k1"] * glucose - production + spent) / p["k2"]).clamp_min(0)
    uptake = (p["Vm0"] + p["Vmx"] * (insulin - p["Ib"])) * tissue / (p["Km0"] + tissue)
    return production - spent - uptake, tissue


def _zero(function: Callable[[Tensor], Tensor], low: float, high: float, like: Tensor) -> Tensor:
    """Returns where a decreasing function crosses zero, of every row."""
    below, above = torch.full_like(like, low), torch.full_like(like, high)
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        positive = function(middle) > 0
        below, above = torch.where(positive, middle, below), torch.where(positive, above, middle)
    return (below + above) / 2
