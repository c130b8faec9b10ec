"""Flame fronts in boxes of different length."""

from separatrix.envs.streams.spread import spread
from separatrix.envs.streams.stream import register_stream


class KuramotoSivashinskyStream:
    """Hold flame fronts at an unstable equilibrium in a box whose length changes.

    ## Description
    The period goes from 20.5 to 24, where the equilibrium E1 exists throughout: its root mean
    square falls from 0.82 to 0.52, and its fastest growth rate rises from 0.11 to 0.18, beyond
    length 23.6 with one more direction that grows. The target is that of each period.

    ## References
    P. Cvitanovic, R. L. Davidchack, E. Siminos, SIAM J. Appl. Dyn. Syst. 9 (2010) 1.
    """


register_stream(
    "KuramotoSivashinskyStream-v0",
    "KuramotoSivashinsky-v0",
    spread(50, length=(20.5, 24.0)),
    horizon=200,
    summary="Hold turbulent flame fronts at an equilibrium in boxes of different length",
    documented=KuramotoSivashinskyStream,
)
