"""Risk of a blood glucose, by two formulas of the literature, and the range to be in."""

from __future__ import annotations

from jaxtyping import Float, Float64
from torch import Tensor

LOW, HIGH, SEVERE = 70.0, 180.0, 54.0
"""Bounds of the range to be in, and of severe hypoglycaemia, mg/dL.

T. Battelino et al., Diabetes Care 42 (2019) 1593.
"""
LARGEST_RISK = 100.0


def kovatchev_risk(glucose: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns the symmetrised risk, 0 at 112.5 mg/dL and 100 at 20 and 600, where it ends.

    B. Kovatchev et al., Diabetes Care 20 (1997) 1655.

    Args:
        glucose: In mg/dL.
    """
    return (10 * _kovatchev_scale(glucose) ** 2).clamp(max=LARGEST_RISK).to(glucose)


def magni_risk(glucose: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns a risk that weighs low glucose more, 0 at 139 mg/dL, at most 100.

    L. Magni et al., J. Diabetes Sci. Technol. 1 (2007) 804, with the numbers of I. Fox et al.
    (Machine Learning for Healthcare, 2020).

    Args:
        glucose: In mg/dL.
    """
    scaled = 3.5506 * (glucose.double().clamp(10.0, 1000.0).log() ** 0.8353 - 3.7932)
    return (10 * scaled**2).clamp(max=LARGEST_RISK).to(glucose)


def low_and_high_risk(
    glucose: Float[Tensor, "*shape"],
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Returns the Kovatchev risk where glucose is low, and where it is high; elsewhere zero.

    Their means over time are the indices LBGI and HBGI.

    Args:
        glucose: In mg/dL.
    """
    risk = kovatchev_risk(glucose)
    low = _kovatchev_scale(glucose) < 0
    return risk * low, risk * ~low


def _kovatchev_scale(glucose: Float[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """Returns the symmetrised glucose, in float64 as torch's float32 depends on the batch."""
    return 1.509 * (glucose.double().clamp(20.0, 600.0).log() ** 1.084 - 5.381)
