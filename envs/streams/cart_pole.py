"""Poles of different length and mass on one cart."""

from separatrix.envs.streams.spread import spread
from separatrix.envs.streams.stream import register_stream


class CartPoleStream:
    """Swing a pole up on a cart and balance it, of another length and mass in each task.

    ## Description
    Poles are 0.4 to 2 m long and weigh 0.05 to 0.5 kg on a cart of 1 kg: hanging, they swing in 1
    to 2.3 s, and the heaviest moves the cart about. All are swung up within the rail and the 5 s of
    an episode. Integration steps of 5 ms make up for the shortest: but at the stops the error of a
    control step stays below 1e-5 in units of the observation.

    ## References
    Y. Tassa et al., DeepMind Control Suite, arXiv:1801.00690 (2018).
    """


register_stream(
    "CartPoleStream-v0",
    "CartPoleSwingUp-v0",
    spread(50, pole_length=(0.4, 2.0), pole_mass=(0.05, 0.5)),
    fixed={"control_interval": 0.04, "substeps": 8},
    horizon=125,
    summary="Swing up and balance poles of different length and mass",
    documented=CartPoleStream,
)
