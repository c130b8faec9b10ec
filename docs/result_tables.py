"""Tables of the benchmarks' results, from the JSON files in `docs/results`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def tables() -> dict[str, str]:
    """Returns a Markdown table for each file of results, by the name of its block."""
    return {
        "learned planning": learned_planning(read("learned_planning")),
        "sparse regression": sparse_regression(read("sparse_regression")),
        "planned swing-up": planned_swing_up(read("planners")),
        "planner throughput": planner_throughput(read("planners")),
        "sindy_rl cart-pole": runs(read("sindy_rl_cart_pole")),
        "sindy_rl swimmer": runs(read("sindy_rl_swimmer")),
        "sindy_rl ablation": runs(read("sindy_rl_ablation")),
        "sindy_rl systems": sindy_rl_systems(read("sindy_rl_systems")),
        "sindy_rl distillation": distillation(read("sindy_rl_distillation")),
        "surrogate speed": surrogate_speed(read("surrogate_speed")),
    }


def existing(prefix: str, made: Mapping[str, Callable[[dict[str, Any]], str]]) -> dict[str, str]:
    """Returns a Markdown table for each block whose results exist, by its name.

    Args:
        prefix: What the names of files and blocks begin with.
        made: Tables by the names of their blocks, whose first words are those of the files.
    """
    found = {}
    for name, table in made.items():
        path = RESULTS / f"{prefix}_{name.partition(' ')[0]}.json"
        if path.exists():
            found[f"{prefix} {name}"] = table(read(path.stem))
    return found


def read(name: str) -> dict[str, Any]:
    """Reads a file of results."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def lines(heading: str, rows: list[list[str]], origin: dict[str, Any]) -> str:
    """Lays a table out, and tells below where its numbers come from.

    Args:
        heading: Headings between bars; those that end with a colon are of numbers.
        rows: The cells.
        origin: The content of the file.
    """
    names = [name.strip() for name in heading.split("|")]
    rule = ["---:" if name.endswith(":") else "---" for name in names]
    table = [[name.removesuffix(":") for name in names], rule, *rows]
    versions = origin["versions"]
    threads = origin.get("threads", {}).get("torch")
    told = "" if threads is None else f", {threads} thread{'s' if threads > 1 else ''}"
    source = (
        f"`{origin['command']}`; {versions['cpu']}, {origin['cores']} cores{told}, torch "
        f"{versions['torch']}, Python {versions['python']}, load {origin['load_average'][0]:.1f}."
    )
    return "\n".join([*(f"| {' | '.join(row)} |" for row in table), "", source])


def runs(content: dict[str, Any]) -> str:
    """Real steps to a return, and final returns, over seeds."""

    def steps(value: float | None) -> str:
        return "never" if value is None else f"{value:,.0f}"

    rows = []
    for row in content["results"]:
        middle, low, high = map(steps, row["steps"])
        final, bottom, top = row["return"]
        rows.append(
            [
                row["name"],
                str(row["seeds"]),
                str(row["failed"]),
                f"{middle} [{low}, {high}]",
                f"{final:.0f} [{bottom:.0f}, {top:.0f}]",
                f"{row['total_steps']:,}",
            ]
        )
    threshold = content["results"][0]["threshold"]
    heading = (
        f"way | seeds: | failed: | real steps to {threshold:g}, median [quartiles]: "
        "| final return: | real steps of a run:"
    )
    return lines(heading, rows, content)


def sindy_rl_systems(content: dict[str, Any]) -> str:
    """Returns beside those of classical control, by system."""
    columns = ("sindy_rl", "model_lqr", "first_lqr", "ppo", "true_lqr", "zero")
    rows = [
        [
            f"`sindy_rl_{name}`",
            f"{found['steps']:,.0f}",
            *(
                "none" if found["means"][column] is None else f"{found['means'][column]:.0f}"
                for column in columns
            ),
        ]
        for name, found in content["results"].items()
    ]
    heading = (
        "experiment | real steps: | SINDy-RL: | LQR on its model: "
        "| LQR on a model of the first steps: | PPO, as many steps: | LQR, true model: | zero:"
    )
    return lines(heading, rows, content)


def distillation(content: dict[str, Any]) -> str:
    """A distilled policy: how well it does, and its equations."""
    teacher, student = content["real_return"].values()
    rows = [
        ["terms", str(content["terms"])],
        ["real steps to choose it", f"{content['real_steps']:,}"],
        ["real return of the teacher", f"{teacher:.1f}"],
        ["real return of the formula", f"{student:.1f}"],
        ["their ratio", f"{content['ratio']:.3f}"],
        ["return of the formula in the surrogate", f"{content['surrogate_return']['student']:.1f}"],
        ["largest difference of actions between C and torch", f"{content['c_error']:.1g}"],
    ]
    table = lines("quantity | value:", rows, content)
    return "\n".join([table, "", "```text", *content["equations"], "```"])


def surrogate_speed(content: dict[str, Any]) -> str:
    """Times of surrogate and refit beside PySINDy's, on one thread."""
    tasks = {"refit": "refit, 16,000 rows, 20 members"}
    rows = [
        [
            tasks.get(row["task"], row["task"]),
            row["way"],
            f"{1e3 * row['median']:.3g}",
            "" if row.get("per_second") is None else f"{row['per_second']:,.0f}",
            "" if row.get("pysindy_over_this") is None else f"{row['pysindy_over_this']:.3g}",
        ]
        for row in content["times"]
        if row["threads"] == 1
    ]
    heading = "task | way | ms, median: | states a second: | PySINDy's time over this:"
    return lines(heading, rows, content)


def learned_planning(content: dict[str, Any]) -> str:
    """Returns of planners in learned ensembles."""
    rows = [
        [
            str(result["seed"]),
            name,
            f"{found['return']:.1f} [{found['interval'][0]:.1f}, {found['interval'][1]:.1f}]",
            f"{found['least']:.1f}",
            f"{found['upright_at_the_end']:.0%}",
            f"{found['milliseconds_per_action']:.1f}",
        ]
        for result in content["results"]
        for name, found in result["planners"].items()
    ]
    heading = (
        "seed | planner | return [95 % interval]: | least: | upright at the end: | ms an action:"
    )
    return lines(heading, rows, content)


def sparse_regression(content: dict[str, Any]) -> str:
    """Times beside PySINDy."""
    tasks = {"refit": "refit, 16,000 rows, 41 features, 20 members, 5 targets"}
    rows = [
        [
            tasks.get(row["task"], f"{row['task']} rows").replace(
                "predict 1 rows", "predict 1 row"
            ),
            row["way"],
            str(row["threads"]),
            f"{1e3 * row['median']:.3g}",
            f"{row['pysindy_over_this']:.3g}",
        ]
        for row in content["times"]
    ]
    heading = "task | way | threads: | ms, median: | PySINDy's time over this:"
    return lines(heading, rows, content)


def planned_swing_up(content: dict[str, Any]) -> str:
    """Returns and costs of planners on the true model."""
    found = content["swing_up"]
    rows = [
        [
            row["planner"],
            f"{row['return']:.1f} [{row['interval'][0]:.1f}, {row['interval'][1]:.1f}]",
            f"{row['least_return']:.1f}",
            f"{row['upright_at_the_end']:.0%}",
            f"{row['milliseconds_an_action']:.2f}",
            f"{row['model_steps_an_action']:,.0f}",
        ]
        for row in found["planners"]
    ]
    heading = (
        "planner | return [95 % interval]: | least: | upright at the end: | ms an action: "
        "| model steps an action:"
    )
    return lines(heading, rows, found)


def planner_throughput(content: dict[str, Any]) -> str:
    """Plans a second beside other packages."""
    found = content["throughput"]
    rows = [
        [
            str(row["environments"]),
            row["planner"],
            f"{row['environments'] / row['median']:.3g}",
            "" if row["ours_over_it"] is None else f"{row['ours_over_it']:.2f}",
            "" if row["reward"] is None else f"{row['reward']:.3f}",
        ]
        for row in found["planners"]
    ]
    heading = (
        "environments: | planner | actions a second: | our speed over its: | mean reward of a step:"
    )
    return lines(heading, rows, found)
