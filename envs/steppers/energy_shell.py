"""Initial states spread evenly over an energy shell of a system of two degrees of freedom."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream

CANDIDATES = 64


@dataclass(frozen=True)
class EnergyShell:
    """The microcanonical ensemble: all states (q, v) of one energy, as Liouville's measure has it.

    With H = p' M(q)^-1 p / 2 + V(q), integrating delta(H - E) over the two momenta leaves the
    density sqrt(det M(q)) over the positions with V(q) < E, and a direction of M^(-1/2) p that is
    uniform on the circle. Positions are found by rejection: the first accepted of 64 candidates,
    so that every environment draws equally many numbers.

    Attributes:
        energy: E.
        low, high: A box around all accessible positions.
        potential: V of q1 and q2.
        mass: M11, M12, M22 of q1 and q2; not below zero in determinant, of which `heaviest` is the
            largest over the box.
        heaviest: See `mass`.
    """

    energy: float
    low: tuple[float, float]
    high: tuple[float, float]
    potential: Callable[[Tensor, Tensor], Tensor]
    mass: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    heaviest: float

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        """Draws positions and velocities, (batch, 4) in float64.

        If none of the 64 candidates is accepted, of probability below 1e-9 for the systems here,
        the first one is taken, at rest where it is not accessible.
        """
        import torch

        from separatrix.envs.core.stream import INITIAL_STATE

        uniform, stream = stream.uniform(3 * CANDIDATES + 1, torch.float64, INITIAL_STATE)
        q1, q2, chance = (column.contiguous() for column in uniform[:, :-1].chunk(3, dim=1))
        q1 = self.low[0] + (self.high[0] - self.low[0]) * q1
        q2 = self.low[1] + (self.high[1] - self.low[1]) * q2
        kinetic = self.energy - self.potential(q1, q2)
        m11, m12, m22 = self.mass(q1, q2)
        determinant = m11 * m22 - m12 * m12
        accepted = (kinetic > 0) & (chance * chance < determinant / self.heaviest)
        chosen = accepted.to(torch.int8).argmax(1, keepdim=True)

        def pick(values: Tensor) -> Tensor:
            return values.gather(1, chosen)[:, 0]

        m11, m12, determinant = pick(m11), pick(m12), pick(determinant)
        speed = (2 * pick(kinetic).clamp(min=0)).sqrt()
        direction = 2 * math.pi * uniform[:, -1].contiguous()
        # M = L L' with L = ((a, 0), (b, c)); L' v is the vector of the given speed and direction.
        a = m11.sqrt()
        v2 = speed * direction.sin() * a / determinant.sqrt()
        v1 = (speed * direction.cos() - m12 / a * v2) / a
        return torch.stack((pick(q1), pick(q2), v1, v2), dim=1), stream
