"""A pendulum on planets of different gravity."""

from separatrix.envs.streams.spread import spread
from separatrix.envs.streams.stream import register_stream


class PendulumStream:
    """Swing a pendulum up and hold it upright under gravity that changes from task to task.

    ## Description
    Gravity goes from 3 to 16 m/s^2, from less than on Mars to more than on Neptune. The torque of
    the motor is all of what lifting the rod takes at the low end, a fifth at the high end, where it
    takes most of an episode to swing it up.

    ## References
    S. H. Strogatz, Nonlinear Dynamics and Chaos (1994), sections 4.4 and 6.7.
    """


register_stream(
    "PendulumStream-v0",
    "DampedPendulum-v0",
    spread(50, gravity=(3.0, 16.0)),
    horizon=150,
    summary="Swing a pendulum up under gravity that changes from task to task",
    documented=PendulumStream,
)
