"""What stands between an agent and the physics it knows: noise, delays, parameters that differ.

A wrapper is a dataclass of numbers that turns any environment into another one, in pure functions
of a state: shells, controllers and agents take it as they take the first, gradients flow through
it, and its state holds all that its future depends on. `make_environment`, `gymnasium.make` and
`gymnasium.make_vec` take a list of them, applied in order, the first one next to the physics:

    gymnasium.make("separatrix/Lorenz-v0", wrap=[ObservationNoise(0.1), ActionDelay(2)])

The argument is not called `wrappers` because `gymnasium.make_vec` keeps that name to itself.
"""

from separatrix.envs.core.wrappers.kinds import (
    ActionDelay,
    FrameStack,
    ObservationNoise,
    ParameterDrift,
    ParameterMismatch,
    PartialObservation,
    RateLimit,
    Wrapper,
    read_wrappers,
)

__all__ = [
    "ActionDelay",
    "FrameStack",
    "ObservationNoise",
    "ParameterDrift",
    "ParameterMismatch",
    "PartialObservation",
    "RateLimit",
    "Wrapper",
    "read_wrappers",
]
