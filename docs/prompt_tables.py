"""Tables of prompt control, from `docs/results/prompt_*.json`, where these files exist.

They are written by the scripts of their names, `benchmarks/prompt_exact.py` and so on. Intervals of
shares are of 95 %, from a bootstrap that draws whole texts anew, as targets of one text are alike;
where all or none is reached it has no width, and Wilson's interval over pairs stands instead.
"""

import io
import json
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from result_tables import existing, lines, read
from scipy.stats import binomtest

RESAMPLES = 4000
LENGTHS = (0, 1, 2, 3, 4, 6, 8, 10)
PUBLISHED = {
    "Falcon-7b, truth (5000)": (42.08, 61.70, 76.22, 82.16, 90.22, 94.36, 96.24, 97.16),
    "Llama-7b, truth (5000)": (40.34, 61.42, 72.36, 76.30, 90.88, 95.00, 97.30, 98.64),
    "Falcon-40b, truth (500)": (43.80, 69.20, 82.00, 86.20, 90.40, 94.00, 95.60, 97.00),
    "GPT-2 124M, truth (5000)": (24.68, 36.64, 48.74, 58.24, 87.70, 96.20, 98.96, 99.68),
    "Falcon-7b, top (1875)": (1.33, 9.23, 25.28, 36.96, 54.99, 73.01, 83.15, 89.39),
    "Llama-7b, top (1875)": (1.33, 16.37, 32.32, 39.04, 56.00, 68.11, 78.45, 85.49),
    "Falcon-40b, top (281)": (1.42, 16.01, 35.23, 45.55, 56.58, 67.26, 76.87, 84.70),
    "Falcon-7b, uniform (616)": (0.49, 0.49, 3.08, 7.47, 15.10, 28.57, 37.82, 46.43),
}
"""Percent of pairs within so many tokens, from the result files of Magic_Words at 8b3d58e."""


def tables() -> dict[str, str]:
    """Returns a Markdown table for each block whose results exist, by its name."""
    return existing("prompt", TABLES)


def exact(content: dict[str, Any]) -> str:
    """What searches find of what there is, and at what price."""
    rows = []
    for row in content["rows"]:
        share = "none can be reached"
        if row["possible"]:
            low, high = wilson(row["hit"], row["possible"])
            share = f"{row['hit']} of {row['possible']} [{low:.0%}, {high:.0%}]"
        gap = f"{np.mean(row['gap']):.2f} ({np.max(row['gap']):.2f})" if row["gap"] else ""
        tokens, back = (f"{np.mean(row[key]):,.0f}" for key in ("tokens", "gradient_tokens"))
        rows.append([row["goal"], row["search"], share, gap, tokens, back])
    heading = (
        "goal | search | reached, of what can be: | nats short of the best, mean (largest) of the "
        "others: | tokens read a pair: | with gradients:"
    )
    return lines(heading, rows, content)


def sets(content: dict[str, Any]) -> str:
    """Sizes of reachable sets."""
    found = content["exact"]
    sizes = np.array(found["reachable"])
    cells = [f"{np.median(row):.0f} ({row.min()} to {row.max()})" for row in sizes.T]
    row = [str(found["tried"]), str(len(sizes)), *cells]
    heading = "texts tried: | kept: | outputs, prompts of a character: | of two characters:"
    return lines(heading, [row], content)


def estimate(content: dict[str, Any]) -> str:
    """How often random prompts have found all outputs that are not rare."""
    found = content["estimate"]
    covered = np.array(found["covered"])
    share, promised = f"{found['share']:.0%}", f"{found['confidence']:.0%}"
    cells = f"{covered.min():.3f}", f"{covered.mean():.3f}"
    row = [share, str(found["prompts"]), promised, *cells, str(len(covered))]
    heading = (
        "outputs of at least | random prompts: | all found, promised: | found, worst text: "
        "| mean: | texts:"
    )
    return lines(heading, [row], content)


def loops(content: dict[str, Any]) -> str:
    """Success of open and closed loops."""
    rows = []
    for row in content["rows"]:
        low, high = row["interval"]
        share = f"{row['hits'] / row['episodes']:.1%} [{low:.1%}, {high:.1%}]"
        cells = f"{row['written']:.2f}", f"{row['length']:.2f}", str(row["episodes"])
        rows.append([row["controller"], share, *cells])
    heading = "controller | success: | characters written: | steps: | episodes:"
    return lines(heading, rows, content)


def agents(content: dict[str, Any]) -> str:
    """Success and returns of the experiments' policies."""

    def cell(row: dict[str, Any], name: str) -> str:
        if name not in row:
            return ""
        low, high = row[name]["interval"]
        share = f"{row[name]['hits'] / row['episodes']:.1%} [{low:.1%}, {high:.1%}]"
        return f"{share}, {row[name]['return']:.2f}"

    rows = [
        [
            f"`{row['experiment']}`",
            f"{row['steps']:,}",
            *(cell(row, name) for name in ("policy", "random", "ahead")),
        ]
        for row in content["rows"]
    ]
    heading = "experiment | steps: | hits, return: | random actions: | a look ahead:"
    return lines(heading, rows, content)


def bound(content: dict[str, Any]) -> str:
    """Violations of the bound, as corrected and as printed."""
    rows = [
        [
            row["what"],
            str(row["prompt"]),
            f"{row['heads']:,}",
            str(row["violations"]),
            f"{row['largest_ratio']:.2f}",
            f"{row['median_ratio']:.3f}",
            str(row["printed_violations"]),
        ]
        for row in content["rows"]
    ]
    heading = (
        "heads | prompt: | number: | corrected bound violated: | largest share of the bound: "
        "| median: | theorem as printed violated:"
    )
    return lines(heading, rows, content)


def speed(content: dict[str, Any]) -> str:
    """Texts and tokens a second, and memory."""
    tokens = {"read": content["tokens"], "read on": 1, "gradient": content["tokens"]}
    rows = [
        [
            row["model"],
            str(row["batch"]),
            row["what"],
            f"{row['texts_a_second']:,.1f}",
            f"{tokens[row['what']] * row['texts_a_second']:,.0f}",
            f"{row['peak_bytes'] / 1e6:,.0f}",
        ]
        for row in content["rows"]
    ]
    heading = "model | batch: | what | texts a second: | tokens a second: | peak MB:"
    return lines(heading, rows, content)


def enumeration(content: dict[str, Any]) -> str:
    """Time in which all prompts of a length are tried."""
    rows = [
        [str(row["length"]), f"{row['prompts']:,}", f"{row['seconds']:.2f}"]
        for row in content["enumeration"]
    ]
    return lines("characters of a prompt: | prompts: | seconds a text:", rows, content)


def candidates(content: dict[str, Any]) -> str:
    """Candidates of coordinate gradients a second."""
    found = content["candidates_a_second"]
    rows = [[side, f"{rate:.1f}", f"{rate / found['ours']:.2f}"] for side, rate in found.items()]
    return lines("coordinate gradients | candidates a second: | of ours:", rows, content)


def curves(content: dict[str, Any]) -> str:
    """Shares of pairs within so many tokens, beside the published ones."""
    rows = []
    for group in content["groups"]:
        found = shares(group)
        cells = [f"{share:.0%} [{low:.0%}, {high:.0%}]" for share, low, high in found]
        count = len(group["pairs"]["needed"])
        rows.append([f"SmolLM2, {group['name']} ({count})", *cells, slope(found[:, 0].tolist())])
    for name, percent in PUBLISHED.items():
        cells = [f"{value:.1f}%" for value in percent]
        rows.append([name, *cells, slope([value / 100 for value in percent])])
    columns = " | ".join(f"{length}:" for length in LENGTHS)
    return lines(f"model, targets (pairs) | {columns} | slope:", rows, content)


def exhaustive(content: dict[str, Any]) -> str:
    """What all prompts of one token reach."""
    rows = []
    for row in content["exhaustive"]:
        likeliest = list(row["reached"].items())[:10]
        told = ", ".join(f"`{json.dumps(text)[1:-1]}` {count:,}" for text, count in likeliest)
        text, seconds = json.dumps(row["text"])[1:-1], f"{row['seconds']:.0f}"
        rows.append([f"`{text}`", f"{row['prompts']:,}", str(len(row["reached"])), told, seconds])
    heading = (
        "text | prompts: | first choices: | the ten most frequent, of how many prompts | seconds:"
    )
    return lines(heading, rows, content)


def shares(group: dict[str, Any]) -> np.ndarray:
    """Share of pairs within so many tokens, and its interval, a row for each of `LENGTHS`."""
    needed, state = (np.array(group["pairs"][key]) for key in ("needed", "state"))
    hits = [(needed >= 0) & (needed <= length) for length in LENGTHS]
    return np.array([(hit.mean(), *interval(hit, state)) for hit in hits])


def picture() -> bytes:
    """Draws the shares of pairs within so many tokens, beside the published ones, as PNG."""
    content = read("prompt_curves")
    figure = Figure(figsize=(9, 4), dpi=90, layout="constrained")
    ours, others = figure.subplots(1, 2, sharey=True)
    for group in content["groups"]:
        share, low, high = 100 * shares(group).T
        (line,) = ours.plot(LENGTHS, share, ".-", label=group["name"])
        ours.fill_between(LENGTHS, low, high, color=line.get_color(), alpha=0.1, linewidth=0)
    for name, percent in PUBLISHED.items():
        others.plot(LENGTHS, percent, ".-", label=name)
    ours.set_title("SmolLM2, ours", fontsize="medium")
    others.set_title("Bhargava et al.", fontsize="medium")
    ours.set_ylabel("% of pairs reached")
    for axes in (ours, others):
        axes.set_ylim(0, 100)
        axes.set_xlabel("tokens of the prompt, at most")
        axes.legend(fontsize="x-small", loc="lower right")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def interval(hit: np.ndarray, state: np.ndarray) -> tuple[float, float]:
    """Interval of a share, whole texts drawn anew."""
    if hit.all() or not hit.any():
        return wilson(int(hit.sum()), len(hit))
    groups = [hit[state == each] for each in np.unique(state)]
    sums, sizes = (np.array([f(group) for group in groups]) for f in (np.sum, len))
    drawn = np.random.default_rng(0).integers(len(groups), size=(RESAMPLES, len(groups)))
    shares = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def wilson(hits: int, pairs: int) -> tuple[float, float]:
    """Wilson's interval of a share."""
    found = binomtest(hits, pairs).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def slope(shares: list[float]) -> str:
    """Slope of the logarithm of the share that is not reached, a token, by least squares."""
    lengths, missed = np.array(LENGTHS), 1 - np.array(shares)
    some = missed > 0
    if some.sum() < 3:
        return ""
    return f"{np.polyfit(lengths[some], np.log(missed[some]), 1)[0]:.3f}"


TABLES = {
    "exact": exact,
    "exact sets": sets,
    "exact estimate": estimate,
    "loops": loops,
    "agents": agents,
    "bound": bound,
    "speed": speed,
    "speed candidates": candidates,
    "speed enumeration": enumeration,
    "curves": curves,
    "curves exhaustive": exhaustive,
}
"""Tables by the names of their blocks, whose first words are those of the files."""
