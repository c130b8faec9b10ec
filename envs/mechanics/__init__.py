"""Mechanical systems: carts, pendulums, bodies. Importing the package registers them."""

from separatrix.envs.mechanics import (
    cart_pole,
    damped_pendulum,
    door,
    double_pendulum,
    edge_of_reach,
    half_cheetah,
    hopper,
    inverted_pendulum,
    pusher,
    swimmer,
)

__all__ = [
    "cart_pole",
    "damped_pendulum",
    "door",
    "double_pendulum",
    "edge_of_reach",
    "half_cheetah",
    "hopper",
    "inverted_pendulum",
    "pusher",
    "swimmer",
]
