"""A runner with one body after another."""

from separatrix.envs.streams.stream import register_stream

PARTS = ("torso", "thighs", "shins", "feet")
SCALES = (1.25, 0.8, 1.5, 0.65)


class HalfCheetahStream:
    """Run forward on two legs with a body of which another part is larger or smaller in each task.

    ## Description
    The first five tasks are those of Huang et al.: the normal body, and then one with torso,
    thighs, shins and feet 1.25 times as large. The same parts follow at 0.8 times their size, then
    at 1.5 and at 0.65. What changes are the masses of all parts and the shape of those that touch
    the ground.

    ## References
    Y. Huang, K. Xie, H. Bharadhwaj, F. Shkurti, Continual model-based reinforcement learning with
    hypernetworks, Proc. ICRA (2021), arXiv:2009.11997.
    """


register_stream(
    "HalfCheetahStream-v0",
    "HalfCheetah-v0",
    {
        "body": ("normal", *PARTS * len(SCALES)),
        "body_scale": (1.0, *(scale for scale in SCALES for _ in PARTS)),
    },
    horizon=1000,
    summary="Run forward with a body of which another part is larger or smaller in each task",
    documented=HalfCheetahStream,
)
