"""Mechanical systems: carts, pendulums, bodies. Importing the package registers them."""

from separatrix.envs.mechanics import cart_pole

__all__ = ["cart_pole"]
