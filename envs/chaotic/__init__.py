"""Chaotic systems: flows and the tasks on them. Importing the package registers them."""

from separatrix.envs.chaotic import lorenz, lorenz96, rossler

__all__ = ["lorenz", "lorenz96", "rossler"]
