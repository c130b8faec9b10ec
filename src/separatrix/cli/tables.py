"""Evaluations as tables: means with their 95 % bootstrap intervals."""

from collections.abc import Mapping

from rich.table import Table

from separatrix.controllers.evaluation import Evaluation, bootstrap_interval


def mean_with_interval(evaluation: Evaluation, column: str) -> str:
    """Mean of a column over the episodes, with its 95 % bootstrap interval.

    Args:
        evaluation: The evaluation.
        column: One of `Evaluation.columns`.

    Returns:
        Text such as `0.53 [0.49, 0.56]`, or `0.53` if all episodes agree.
    """
    values = evaluation.columns()[column]
    low, high = bootstrap_interval(values)
    mean = f"{values.mean().item():.3g}"
    return mean if low == high else f"{mean} [{low:.3g}, {high:.3g}]"


def evaluation_table(evaluations: Mapping[str, Evaluation], title: str) -> Table:
    """Lay out evaluations side by side, a column for each controller.

    Args:
        evaluations: Evaluation of each controller, all of the same environment.
        title: What was evaluated.

    Returns:
        A table for rich to print.
    """
    table = Table(title=title, caption="mean over the episodes [95 % bootstrap interval]")
    table.add_column("")
    for name in evaluations:
        table.add_column(name, justify="right")
    for quantity in next(iter(evaluations.values())).columns():
        cells = (mean_with_interval(evaluation, quantity) for evaluation in evaluations.values())
        table.add_row(quantity.replace("_", " "), *cells)
    return table
