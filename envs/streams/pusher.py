"""A block to push whose halves have other densities in each task."""

from separatrix.envs.streams.spread import spread
from separatrix.envs.streams.stream import register_stream

PAIRS = ((500.0, 500.0), (100.0, 500.0), (500.0, 100.0), (500.0, 250.0), (250.0, 500.0))
"""Densities of the paper's tasks, the first of which are these, in kg/m^3."""
FRICTION = 0.4


class PusherStream:
    """Push a block to a goal pose; the densities of its halves, and friction, change.

    ## Description
    Nothing that is seen tells where the block's centre of mass is: the same push turns it one way
    or the other. The first five tasks are those of the paper below, under the same friction; the
    other 45 go on over densities of 100 to 1000 kg/m^3 and coefficients of friction of 0.2 to 0.8.

    ## References
    Y. Huang, K. Xie, H. Bharadhwaj, F. Shkurti, Continual Model-Based Reinforcement Learning with
    Hypernetworks, ICRA 2021, arXiv:2009.11997.
    """


def parameters() -> dict[str, tuple[float, ...]]:
    """Returns densities and friction of all tasks."""
    density_1, density_2 = zip(*PAIRS, strict=True)
    known = {"density_1": density_1, "density_2": density_2, "friction": (FRICTION,) * len(PAIRS)}
    density, friction = (100.0, 1000.0), (0.2, 0.8)
    others = spread(50 - len(PAIRS), density_1=density, density_2=density, friction=friction)
    return {name: known[name] + others[name] for name in known}


register_stream(
    "PusherStream-v0",
    "Pusher-v0",
    parameters(),
    horizon=120,
    summary="Push a block whose halves have other densities in each task",
    documented=PusherStream,
)
