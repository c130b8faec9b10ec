"""Tables and curves of the benchmarks on bodies in a stream, from the files in `docs/results`."""

from typing import Any

from result_tables import lines, read


def tables() -> dict[str, str]:
    """Returns a Markdown table for each block, by its name."""
    return {
        "body control": control(read("body_control")),
        "strouhal": strouhal(read("strouhal")),
    }


def control(content: dict[str, Any]) -> str:
    """Drag, lift and return of every controller."""
    rows = []
    for row in content["results"]:
        options = ", ".join(f"{key} {value}" for key, value in row["options"].items())
        mean, low, high = row["return"]
        change = 100 * row["drag_change"]
        rows.append(
            [
                f"{row['environment'].removesuffix('-v0')}{f' ({options})' if options else ''}",
                row["controller"].replace("_", " "),
                f"{row['drag'][0]:.3f}",
                f"{change:+.1f} %" if row["controller"] != "zero" else "",
                f"{row['lift'][0]:.3f}",
                f"{mean:.1f} [{low:.1f}, {high:.1f}]",
                f"{row['energy'][0]:.4f}",
                f"{row['milliseconds_a_decision']:.2f}",
            ]
        )
    heading = (
        "environment | controller | drag: | change: | mean size of the lift: | return: | energy: "
        "| ms a decision:"
    )
    return lines(heading, rows, content)


def strouhal(content: dict[str, Any]) -> str:
    """Frequencies of some of the cylinders."""
    rows = [
        [
            f"{row['reynolds_number']:.1f}",
            f"{row['strouhal']:.4f}",
            f"{row['formula']:.4f}",
            f"{100 * (row['strouhal'] / row['formula'] - 1):+.1f} %",
            f"{row['mean_drag']:.3f}",
        ]
        for row in content["rows"][::9]
    ]
    heading = "Re | Strouhal number | Williamson's formula | difference: | mean drag:"
    return lines(heading, rows, content)
