"""`python -m separatrix.agents.medida`: the terms that imperfect models lack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro

from separatrix.agents.medida.cases import CASES
from separatrix.agents.medida.config import MedidaConfig
from separatrix.agents.medida.study import study

DEFAULT = MedidaConfig()


def main(
    cases: tuple[int, ...] = tuple(CASES),
    seeds: tuple[int, ...] = (0,),
    config: Annotated[MedidaConfig, tyro.conf.arg(name="")] = DEFAULT,
    output: Path | None = None,
) -> None:
    """Seek the errors of imperfect models of Kuramoto-Sivashinsky, and print what was found.

    Args:
        cases: Numbers of the imperfect models.
        seeds: Of the noise.
        config: Observations, filter and regression.
        output: File to write all results to, as JSON.
    """
    rows = []
    for result in study(config, cases, seeds):
        found = result.score
        verdict = "exact" if found.exact else f"missed {found.missed}, spurious {found.spurious}"
        print(f"case {result.case}, seed {result.seed}: {verdict}, {found.largest_error:.1e}")
        print(f"{result.discovery}\n", flush=True)
        rows.append(result.row())
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m separatrix.agents.medida")
