"""Figures of offline training, drawn without pyplot and so without its global state."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from separatrix.agents.offline.data.dataset import References


def return_histogram(
    recorded: Float[np.ndarray, " episodes"], policy: float, references: References | None
) -> Figure:
    """Draws where the policy's mean return lies among those of the recorded episodes.

    Args:
        recorded: Return of each recorded episode.
        policy: Mean return of the policy.
        references: Returns that scores are scaled by; None where there are none.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(recorded, bins=50, color="tab:gray", label="recorded episodes")
    axes.axvline(policy, color="tab:red", label="policy, mean")
    if references is not None:
        for name in ("random", "expert"):
            style = ":" if name == "random" else "--"
            axes.axvline(getattr(references, name), color="black", linestyle=style, label=name)
    axes.set_xlabel("return")
    axes.set_ylabel("episodes")
    axes.legend()
    return figure
