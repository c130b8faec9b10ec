"""Tables of the benchmarks on digital twins, from the JSON files in `docs/results`."""

from typing import Any

from result_tables import lines, read


def tables() -> dict[str, str]:
    """Returns a Markdown table for each block, by its name."""
    return {
        "glucose control": control(read("glucose_control")),
        "glucose twin": follow(read("glucose_twin")),
        "calibration": calibration(read("calibration")),
        "glucose speed": speed(read("glucose_speed")),
    }


def control(content: dict[str, Any]) -> str:
    """Shares of time, risks and insulin of every controller."""
    rows = []
    for row in content["results"]:
        mean, low, high = (100 * value for value in row["in_range"])
        rows.append(
            [
                row["group"],
                row["controller"].replace("_", " "),
                str(row["days"]),
                f"{mean:.1f} [{low:.1f}, {high:.1f}]",
                *(f"{100 * row[name][0]:.1f}" for name in ("below_range", "severe", "above_range")),
                *(f"{row[name][0]:.2f}" for name in ("low_risk", "high_risk")),
                f"{row['insulin'][0]:.1f}",
                str(row["died"]),
                f"{row['milliseconds_a_decision']:.3f}",
            ]
        )
    heading = (
        "patients | controller | days: | % in range: | % below 70: | % below 54: | % above 180: "
        "| LBGI: | HBGI: | U a day: | died: | ms a decision:"
    )
    return lines(heading, rows, content)


def follow(content: dict[str, Any]) -> str:
    """Errors of a twin's glucose, by the way in which it follows the sensor."""
    rows = []
    for name, row in content["mean"].items():
        known = "crps" in row
        rows.append(
            [
                name,
                f"{row['rmse']:.1f}",
                f"{row['worst_rmse']:.1f}",
                f"{row['spread']:.1f}" if known else "",
                f"{row['crps']:.2f}" if known else "",
                f"{row['covered']:.2f}" if known else "",
            ]
        )
    heading = "way | RMSE, mg/dL: | of the worst patient: | spread: | CRPS: | 90 % intervals cover:"
    return lines(heading, rows, content)


def calibration(content: dict[str, Any]) -> str:
    """Coverage and errors of estimated parameters, by the way of estimation."""
    rows = []
    for name, row in content["ways"].items():
        found, everything = row["identifiable"], row["all"]
        if not found["intervals"]:
            continue
        rows.append(
            [
                name,
                f"{found['intervals']} of {everything['intervals']}",
                f"{found['coverage']:.2f}",
                f"{everything['coverage']:.2f}",
                f"{found['rms_distance']:.2f}",
                f"{100 * found['rms_relative_error']:.1f} %",
                f"{100 * found['rms_relative_error_of_prior']:.1f} %",
            ]
        )
    heading = (
        "way | identifiable: | their 90 % intervals cover: | all cover: "
        "| error in posterior deviations: | relative error: | of the prior:"
    )
    return lines(heading, rows, content)


def speed(content: dict[str, Any]) -> str:
    """Patient-minutes per second, ours and simglucose's."""
    rows = [
        [
            f"{row['patients']:,}",
            str(row["threads"]),
            row["way"],
            f"{row['patient_minutes_per_second']:,.0f}",
            f"{row['over_simglucose']:,.0f}" if "over_simglucose" in row else "",
        ]
        for row in content["speed"]
    ]
    heading = "patients: | threads: | way | patient-minutes per second: | over simglucose:"
    return lines(heading, rows, content)
