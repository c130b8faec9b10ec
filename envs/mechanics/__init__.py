"""Mechanical systems: carts, pendulums, bodies. Importing the package registers them."""

from separatrix.envs.mechanics import (
    cart_pole,
    damped_pendulum,
    door,
    double_pendulum,
    half_cheetah,
    pusher,
    swimmer,
)

__all__ = [
    "cart_pole",
    "damped_pendulum",
    "door",
    "double_pendulum",
    "half_cheetah",
    "pusher",
    "swimmer",
]
