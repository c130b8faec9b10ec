"""Mechanical systems: carts, pendulums, bodies. Importing the package registers them."""

from separatrix.envs.mechanics import cart_pole, damped_pendulum, double_pendulum, swimmer

__all__ = ["cart_pole", "damped_pendulum", "double_pendulum", "swimmer"]
