"""Lorenz convection heated more or less."""

from separatrix.envs.streams.spread import spread
from separatrix.envs.streams.stream import register_stream


class LorenzStream:
    """Hold Lorenz convection at its unstable steady rotation under heating that changes.

    ## Description
    The Rayleigh number rho goes from 25 to 45. Above 24.74, where a Hopf bifurcation takes its
    stability, the rotation C+ is unstable, all the more the larger rho, and it moves: the target of
    every task is the origin of its observation, but the flow around it differs. Free or pushed at
    random, no task leaves the inner half of the safe box.

    ## References
    E. N. Lorenz, J. Atmos. Sci. 20 (1963) 130. C. Sparrow, The Lorenz Equations (1982), chapter 2.
    """


register_stream(
    "LorenzStream-v0",
    "Lorenz-v0",
    spread(50, rho=(25.0, 45.0)),
    horizon=400,
    summary="Hold Lorenz convection at its unstable rotation, heated differently in each task",
    documented=LorenzStream,
)
