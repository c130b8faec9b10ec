"""Tables of the discovery of model errors, from `docs/results/medida.json`."""

from typing import Any

from result_tables import lines, read

BY_CASE = (
    "no noise, RVM, one round",
    "no noise, RVM",
    "filter, RVM",
    "filter, ensemble SINDy",
    "truncation, RVM",
)
"""Ways that are told case by case."""


def tables() -> dict[str, str]:
    """Returns a Markdown table for each block, by its name."""
    content = read("medida")
    return {"medida ways": ways(content), "medida cases": cases(content)}


def ways(content: dict[str, Any]) -> str:
    """What every way finds over all its cases and seeds."""
    rows = []
    for result in content["results"]:
        counts = result["all"]
        rows.append(
            [
                result["name"],
                str(len(result["cases"])),
                f"{counts['exact']} of {counts['runs']}",
                f"{counts['found']} of {counts['terms']}",
                str(counts["spurious"]),
                _error(counts["median_error_when_exact"]),
                _error(counts["largest_error_when_exact"]),
            ]
        )
    heading = (
        "way | cases: | exact runs: | terms found: | spurious terms: | error of coefficients, "
        "median of exact runs: | largest of them:"
    )
    return lines(heading, rows, content)


def cases(content: dict[str, Any]) -> str:
    """Exact runs and median errors of every case."""
    found = {result["name"]: result["cases"] for result in content["results"]}
    names = [name for name in BY_CASE if name in found]
    rows = [
        [number, f"`{error.removeprefix('u_t = ')}`", *(_cell(found[n].get(number)) for n in names)]
        for number, error in content["errors"].items()
    ]
    return lines(" | ".join(["case", "error", *(f"{name}:" for name in names)]), rows, content)


def _cell(counts: dict[str, Any] | None) -> str:
    if counts is None:
        return ""
    error = _error(counts["median_error_when_exact"])
    if counts["runs"] == 1:
        return error or "no"
    return f"{counts['exact']}/{counts['runs']}" + (f", {error}" if error else "")


def _error(value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if value >= 1e-3 else f"{value:.0e}"
