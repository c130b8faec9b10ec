"""Streams of tasks for continual learning. Importing the package registers them."""

from separatrix.envs.streams import (
    cart_pole,
    door,
    glucose,
    half_cheetah,
    kuramoto_sivashinsky,
    lorenz,
    pendulum,
    pusher,
)

__all__ = [
    "cart_pole",
    "door",
    "glucose",
    "half_cheetah",
    "kuramoto_sivashinsky",
    "lorenz",
    "pendulum",
    "pusher",
]
