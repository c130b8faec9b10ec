"""Glucose and insulin in type-1 diabetes: 13 compartments, and meals that are eaten in time.

The model is that of C. Dalla Man, R. Rizza, C. Cobelli (IEEE Trans. Biomed. Eng. 54 (2007) 1740)
without a pancreas and with insulin under the skin, as in the simulator of B. Kovatchev et al.
(J. Diabetes Sci. Technol. 3 (2009) 44), whose open form is simglucose (J. Xie, 2018). Time is in
minutes.

    carbohydrates, mg   Q1' = D - kmax Q1       Q2' = kmax Q1 - kgut Q2      Q3' = kgut Q2 - kabs Q3
    glucose, mg/kg      Gp' = max(EGP, 0) + Ra - Fsnc - E - k1 Gp + k2 Gt    Gt' = k1 Gp - k2 Gt - U
    insulin, pmol/kg    Ip' = m1 Il - (m2 + m4) Ip + ka1 S1 + ka2 S2         Il' = m2 Ip - (m1 + m30) Il
    under the skin      S1' = u - (ka1 + kd) S1    S2' = kd S1 - ka2 S2      Gs' = ksc (Gp - Gs)
    its action, pmol/l  X' = p2u (I - Ib - X)      I1' = ki (I - I1)         Id' = ki (I1 - Id)

with I = Ip / Vi, the glucose that appears from the gut Ra = f kabs Q3 / BW, the production of the
liver EGP = kp1 - kp2 Gp - kp3 Id, excretion E = ke1 max(Gp - ke2, 0), uptake by tissues
U = (Vm0 + Vmx X) Gt / (Km0 + Gt), insulin u = 6000 / BW times units a minute, and D the
carbohydrates that are eaten, at most 5 g a minute. The stomach empties at the rate

    kgut = kmin + (kmax - kmin) / 2 (tanh(a (Q - b M)) - tanh(c (Q - d M)) + 2),
    a = 5 / (2 M (1 - b)),    c = 5 / (2 M d),    Q = Q1 + Q2,

where M is what was in the stomach when the meal began and what has been eaten of it since. Glucose
and insulin that would fall below zero stay. Default parameters are the means of Dalla Man et al.,
those under the skin from C. Dalla Man, D. Raimondo, R. Rizza, C. Cobelli (J. Diabetes Sci. Technol.
1 (2007) 323).
"""  # noqa: E501

from __future__ import annotations

from typing import Any

from separatrix.envs.steppers.functions import (
    absolute,
    heaviside,
    maximum,
    minimum,
    tanh,
    where,
)
from separatrix.envs.steppers.ode import ode

EATING_RATE = 5.0
"""Carbohydrates eaten in a minute, g."""
UNIT = 6000.0
"""Insulin in a unit, pmol."""
COMPARTMENTS = ("Q1", "Q2", "Q3", "Gp", "Gt", "Ip", "X", "I1", "Id", "Il", "S1", "S2", "Gs")
MEMORY = ("waiting", "eaten", "before", "bite", "minute")
"""Of meals: what is still to be eaten, what has been eaten of the meal (both g), what was in the
stomach before it (mg), what is eaten in this minute (g); and the minutes since the start."""
CONTROLS = ("insulin", "meal", "meal_minute")
"""Insulin in U/min, and the size (g) and the minute of a meal that begins in the interval."""


def _begin_minute(  # type: ignore[no-untyped-def]
    Q1, Q2, Q3, Gp, Gt, Ip, X, I1, Id, Il, S1, S2, Gs,
    waiting, eaten, before, bite, minute, insulin, meal, meal_minute, **parameters,
):  # fmt: skip
    """Takes up a meal that begins, and what is eaten of it in the coming minute."""
    waiting = waiting + meal * heaviside(0.5 - absolute(minute - meal_minute))
    next_bite = minimum(EATING_RATE, waiting)
    begins = (next_bite > 0) & (bite <= 0)
    return (
        *(Q1, Q2, Q3, Gp, Gt, Ip, X, I1, Id, Il, S1, S2, Gs),
        waiting - next_bite,
        where(begins, 0, eaten) + next_bite,
        where(begins, Q1 + Q2, before),
        next_bite,
        minute + 1,
    )


class _Fasting:
    """Patients start from a fasting state, which `GlucoseSystem` computes."""

    def sample(self, stream: Any) -> Any:
        raise TypeError("glucose starts from GlucoseSystem.initial_state")


@ode(
    states=" ".join((*COMPARTMENTS, *MEMORY)),
    controls=" ".join(CONTROLS),
    start=_Fasting(),
    box=(-1e7, 1e7),
    jump=_begin_minute,
)
def glucose(  # type: ignore[no-untyped-def]
    Q1, Q2, Q3, Gp, Gt, Ip, X, I1, Id, Il, S1, S2, Gs,
    waiting, eaten, before, bite, minute, insulin, meal, meal_minute, *,
    BW=78.0, Vg=1.88, k1=0.065, k2=0.079,
    Vi=0.05, m1=0.190, m2=0.484, m4=0.194, m30=0.285,
    kmax=0.0558, kmin=0.008, kabs=0.057, f=0.9, b=0.82, d=0.01,
    kp1=2.7, kp2=0.0021, kp3=0.009, ki=0.0079,
    Fsnc=1.0, Vm0=2.5, Vmx=0.047, Km0=225.59, p2u=0.0331, Ib=25.49, ke1=0.0005, ke2=339.0,
    ka1=0.0018, ka2=0.0182, kd=0.0164, ksc=0.1,
):  # fmt: skip
    """Rates of change in a minute in which `bite` g are eaten."""
    stomach = Q1 + Q2
    meal_size = maximum(before + 1000 * eaten, 1)  # mg; nothing is in an empty stomach to divide
    steepness_full = 5 / (2 * meal_size * (1 - b))
    steepness_empty = 5 / (2 * meal_size * d)
    emptying = kmin + (kmax - kmin) / 2 * (
        tanh(steepness_full * (stomach - b * meal_size))
        - tanh(steepness_empty * (stomach - d * meal_size))
        + 2
    )
    I = Ip / Vi  # noqa: E741
    production = maximum(kp1 - kp2 * Gp - kp3 * Id, 0)
    excretion = ke1 * maximum(Gp - ke2, 0)
    uptake = (Vm0 + Vmx * X) * Gt / (Km0 + Gt)

    def above_zero(value: Any, rate: Any) -> Any:
        return where(value >= 0, rate, 0)

    return (
        1000 * bite - kmax * Q1,
        kmax * Q1 - emptying * Q2,
        emptying * Q2 - kabs * Q3,
        above_zero(Gp, production + f * kabs * Q3 / BW - Fsnc - excretion - k1 * Gp + k2 * Gt),
        above_zero(Gt, k1 * Gp - k2 * Gt - uptake),
        above_zero(Ip, m1 * Il - (m2 + m4) * Ip + ka1 * S1 + ka2 * S2),
        p2u * (I - Ib - X),
        ki * (I - I1),
        ki * (I1 - Id),
        above_zero(Il, m2 * Ip - (m1 + m30) * Il),
        above_zero(S1, UNIT / BW * insulin - (ka1 + kd) * S1),
        above_zero(S2, kd * S1 - ka2 * S2),
        above_zero(Gs, ksc * (Gp - Gs)),
        *(0, 0, 0, 0, 0),
    )


PARAMETERS = tuple(glucose.parameters)
