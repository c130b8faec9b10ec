"""Doors of different handles to open."""

from separatrix.envs.mechanics.door import HANDLES
from separatrix.envs.streams.stream import register_stream


class DoorStream:
    """Open a door; its handle changes from task to task.

    ## Description
    Two handles are to be pulled, on doors that open to either side; of knobs and levers two are to
    be turned left and two right first. The observation does not name the handle. They are those of
    the paper below, in its order.

    ## References
    Y. Huang, K. Xie, H. Bharadhwaj, F. Shkurti, Continual Model-Based Reinforcement Learning with
    Hypernetworks, ICRA 2021, arXiv:2009.11997.
    """


register_stream(
    "DoorStream-v0",
    "Door-v0",
    {"handle": tuple(HANDLES)},
    horizon=100,
    summary="Open doors of different handles",
    documented=DoorStream,
)
