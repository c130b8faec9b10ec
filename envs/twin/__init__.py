"""Digital twins. Importing it registers the environments."""

from separatrix.envs.twin import glucose, refrigerator

__all__ = ["glucose", "refrigerator"]
