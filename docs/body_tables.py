"""Tables and curves of the benchmarks on bodies in a stream, from the files in `docs/results`."""

from typing import Any

from result_tables import lines, read


def tables() -> dict[str, str]:
    """Returns a Markdown table for each block, by its name."""
    lattice = read("lattice")
    return {
        "body control": control(read("body_control")),
        "lattice updates": updates(lattice),
        "lattice steps": steps(lattice),
        "lattice gradient": gradient(lattice),
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


def updates(content: dict[str, Any]) -> str:
    """Million updates a second of our kernel, of what bounds it, and of Lettuce."""
    rows = []
    theirs = {
        row["resolution"]: row["mlups"]
        for row in content["lettuce"]
        if row["way"] == "Lettuce, regularized"
    }
    for row in content["updates"]:
        found, lettuce = row["mlups"], theirs.get(row["resolution"])
        alone = row["batch"] == 1 and lettuce is not None
        rows.append(
            [
                str(row["resolution"]),
                str(row["batch"]),
                f"{row['sites']:,}",
                f"{found['numba']:.0f}",
                f"{found['collide']:.0f}",
                f"{found['torch']:.1f}",
                f"{lettuce:.1f}" if alone else "",
            ]
        )
    heading = (
        "sites to a diameter: | batch: | sites of one: | numba: | its sweep without boundaries: "
        "| torch reference: | Lettuce, regularized:"
    )
    bound = max(entry["bound_mlups"]["float32"] for entry in content["memory"])
    return lines(heading, rows, content) + (
        f"\n\nThe memory of this machine would allow {bound:.0f} MLUPS, at the bytes an update "
        "moves by the benchmark's own measurement; what fits in the cache is not bound by it."
    )


def steps(content: dict[str, Any]) -> str:
    """Environment steps a second."""
    rows = [
        [
            str(row["resolution"]),
            str(row["batch"]),
            f"{row['steps_a_second']:,.0f}",
            f"{1e3 * row['seconds']['median']:.1f}",
        ]
        for row in content["steps"]["ours"]
    ]
    heading = "sites to a diameter: | batch: | steps a second: | ms of the batch:"
    return lines(heading, rows, content)


def gradient(content: dict[str, Any]) -> str:
    """Time and memory of a step with its gradient."""
    rows = [
        [
            str(row["batch"]),
            row["backend"],
            f"{1e3 * row['seconds'][0]:.1f}",
            f"{1e3 * row['seconds'][1]:.1f}",
            f"{row['peak_bytes'][1] / 2**20:.1f}",
        ]
        for row in content["gradient"]
    ]
    heading = "batch: | backend | step, ms: | with its gradient, ms: | MiB at most:"
    return lines(heading, rows, content)
