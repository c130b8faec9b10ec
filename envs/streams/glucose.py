"""One patient after another."""

from separatrix.envs.streams.stream import register_stream
from separatrix.envs.twin.glucose.patients import patient_names

GROUPS = ("adult", "adolescent", "child")


class GlucoseStream:
    """Keep the glucose of one person after another with type-1 diabetes in range by insulin.

    ## Description
    Research only, not for treatment decisions.

    The thirty patients of the package, an adult, an adolescent and a child by turns. Actions are in
    units of each patient's own insulin, so doses that are right for one are not far off for another
    but for how fast meals and insulin act.

    ## References
    C. Dalla Man, R. Rizza, C. Cobelli, IEEE Trans. Biomed. Eng. 54 (2007) 1740.
    """


register_stream(
    "GlucoseStream-v0",
    "Glucose-v0",
    {"patient": [name for row in zip(*map(patient_names, GROUPS), strict=True) for name in row]},
    horizon=288,
    summary="Keep the glucose of one patient after another in range by insulin",
    documented=GlucoseStream,
)
