"""Lyapunov exponents: the mean rates at which infinitesimal deviations grow along trajectories.

Tangent vectors are carried along with the flow, and a QR decomposition after every control interval
keeps them apart; the logarithms of the diagonal of R, summed and divided by the time, tend to the
exponents (Benettin et al., Meccanica 15 (1980) 9 and 21).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.analysis.coordinates import flatten
from separatrix.envs.analysis.tangent import Policy, act_with_tangents, advance_tangents
from separatrix.envs.core.environment import Environment


@dataclass(frozen=True)
class LyapunovSpectrum:
    """Lyapunov exponents, in falling order and in units of the inverse time.

    Attributes:
        exponents: Mean over the members.
        standard_error: Of the means, from the scatter of the members.
        members: Exponents of each member; NaN where its trajectory left the safe box.
        complete: Whether these are all exponents, not the first of them only.
    """

    exponents: Float[Tensor, " exponent"]
    standard_error: Float[Tensor, " exponent"]
    members: Float[Tensor, "member exponent"]
    complete: bool

    @property
    def kaplan_yorke_dimension(self) -> float:
        """The number of exponents, with a fraction, whose sum is zero.

        It conjectures the information dimension of the attractor (Kaplan and Yorke, Lecture Notes
        in Mathematics 730 (1979) 204). NaN if the sum of the known exponents does not turn
        negative and there are others.
        """
        sums = self.exponents.cumsum(0)
        whole = int((sums >= 0).long().cumprod(0).sum())
        if whole < len(sums):
            rest = float(sums[whole - 1]) if whole else 0.0
            return whole + rest / -float(self.exponents[whole])
        return float(whole) if self.complete else math.nan

    def __str__(self) -> str:
        rows = [
            f"{i:3d}  {float(value):+.6g} +- {float(error):.2g}"
            for i, (value, error) in enumerate(
                zip(self.exponents, self.standard_error, strict=True), 1
            )
        ]
        dimension = f"Kaplan-Yorke dimension {self.kaplan_yorke_dimension:.4g}"
        return "\n".join([f"Lyapunov exponents, {len(self.members)} members", *rows, dimension])


def lyapunov_spectrum(
    environment: Environment,
    state: Any,
    *,
    duration: float,
    transient: float,
    policy: Policy | None = None,
    exponents: int | None = None,
    delay: float = 0.0,
    seed: int = 0,
) -> LyapunovSpectrum:
    """Computes Lyapunov exponents of an environment, free or under feedback.

    Use an environment of dtype "float64"; the options `control_interval`, `substeps` and
    `integrator` of an ODE system set how often the tangents are made orthogonal and how precisely
    the flow is integrated. The cost is that of a step for every tangent vector.

    Args:
        environment: The environment; any batch if its parameters are shared, else `num_envs` rows.
        state: States of the members to start from, such as `environment.reset(seeds)[0]`; at least
            two. Points of the attractor need no long transient.
        duration: Time over which growth counts, in the system's unit of time.
        transient: Time before, in which the tangent vectors turn into their directions.
        policy: Feedback law without memory, whose derivatives join the tangents; None for zero
            action.
        exponents: How many, the largest first; None for all.
        delay: Counting starts later in each member by a random time up to this. Without it, a phase
            that the members have in common leaves the same remainder in all averages.
        seed: Seed of these delays, and of the first tangents where not all are asked for.

    Raises:
        ValueError: An argument is out of range, or fewer than two members stayed in the safe box.
    """
    size, members = flatten(state).shape[1], flatten(state).shape[0]
    count = size if exponents is None else exponents
    if not 1 <= count <= size:
        raise ValueError(f"exponents: got {exponents}; allowed: 1 to {size}")
    if members < 2:
        raise ValueError(f"state: got {members} members; allowed: 2 or more, to tell the error")
    steps, before, late = (
        round(time / environment.control_interval) for time in (duration, transient, delay)
    )
    if steps < 1 or before < 0 or late < 0:
        raise ValueError(
            f"duration, transient, delay: got {duration}, {transient}, {delay}; allowed: a "
            f"duration of at least {environment.control_interval}, and none negative"
        )
    generator = torch.Generator().manual_seed(seed)
    coordinates = flatten(state)
    start = before + torch.randint(late + 1, (members,), generator=generator)
    start = start.to(coordinates.device)[:, None]
    # Random directions have a part along the fastest ones, as single coordinates may not.
    frame = torch.eye(size, dtype=torch.float64)
    if count < size:
        frame = torch.randn((size, count), generator=generator, dtype=torch.float64)
    tangents, _ = torch.linalg.qr(frame.to(coordinates).repeat(members, 1, 1))
    rest = coordinates.new_zeros((members, *environment.action_shape))
    growth = coordinates.new_zeros((members, count), dtype=torch.float64)
    with torch.no_grad():
        for i in range(before + late + steps):
            action, varied = rest, None
            if policy is not None:
                action, varied = act_with_tangents(environment, policy, state, tangents)
            state, tangents = advance_tangents(environment, state, action, tangents, varied)
            tangents, r = torch.linalg.qr(tangents)
            stretched = r.diagonal(dim1=1, dim2=2).abs().log().double()
            growth += torch.where((i >= start) & (i < start + steps), stretched, 0.0)
    found = (growth / (steps * environment.control_interval)).cpu()
    sound = ~found.isnan().any(1)
    if sound.sum() < 2:
        raise ValueError(
            f"got {int(sound.sum())} members that stayed in the safe box, of {members}; allowed: "
            "2 or more"
        )
    mean, error = found[sound].mean(0), found[sound].std(0) / math.sqrt(int(sound.sum()))
    order = mean.argsort(descending=True)
    return LyapunovSpectrum(mean[order], error[order], found[:, order], count == size)
