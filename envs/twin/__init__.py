"""Digital twins. Importing it registers the environments."""

from separatrix.envs.twin import glucose

__all__ = ["glucose"]
