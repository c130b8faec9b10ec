"""The glucose twin: patients with type-1 diabetes. Importing it registers Glucose-v0."""

from separatrix.envs.twin.glucose import environment

__all__ = ["environment"]
