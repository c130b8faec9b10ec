"""Many discoveries, and what of the true error each of them found."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from separatrix.agents.medida.cases import CASES
from separatrix.agents.medida.config import MedidaConfig
from separatrix.agents.medida.discovery import Discovery, discover_from
from separatrix.agents.medida.observations import observe
from separatrix.agents.medida.states import States
from separatrix.agents.medida.terms import Model, equation, term_name


@dataclass(frozen=True)
class Score:
    """A discovery beside the truth; a term of the wrong sign counts as missed and as spurious.

    Attributes:
        missed: Names of terms of the true error that were not found.
        spurious: Names of terms that were found and are none.
        largest_error: Largest relative error of a coefficient among the true terms that were found;
            NaN if none was.
    """

    missed: tuple[str, ...]
    spurious: tuple[str, ...]
    largest_error: float

    @property
    def exact(self) -> bool:
        """Whether all terms were found and no other."""
        return not self.missed and not self.spurious


def score(error: Model, truth: Model) -> Score:
    """Compares the terms that were found with the true ones."""
    right = {term for term in truth.keys() & error.keys() if truth[term] * error[term] > 0}
    return Score(
        tuple(term_name(term) for term in truth if term not in right),
        tuple(term_name(term) for term in error if term not in right),
        max((abs(error[term] / truth[term] - 1) for term in right), default=math.nan),
    )


@dataclass(frozen=True)
class Result:
    """One discovery of a study.

    Attributes:
        case: Number of the imperfect model.
        seed: Of the noise.
        score: What was found.
        discovery: All of it.
        seconds: Wall-clock time that it took, without the first analysis, which all cases share.
    """

    case: int
    seed: int
    score: Score
    discovery: Discovery
    seconds: float

    def row(self) -> dict[str, object]:
        """Returns it as plain data, for JSON."""
        found = self.score.largest_error
        return {
            "case": self.case,
            "seed": self.seed,
            "missed": list(self.score.missed),
            "spurious": list(self.score.spurious),
            "largest_error": None if math.isnan(found) else found,
            "error": equation(self.discovery.error).removeprefix("u_t = "),
            "corrected": self.discovery.equation,
            "waves": self.discovery.waves,
            "seconds": self.seconds,
        }


def study(
    config: MedidaConfig, cases: Sequence[int], seeds: Sequence[int], flow_seed: int = 0
) -> Iterator[Result]:
    """Runs discoveries, all on the same flows.

    Args:
        config: Observations, filter and regression.
        cases: Numbers of the imperfect models.
        seeds: Of the noise, and of what a discovery draws.
        flow_seed: Of the flows.

    Yields:
        The results, as they come.

    Raises:
        ValueError: A case is unknown.
    """
    unknown = sorted(set(cases) - CASES.keys())
    if unknown:
        raise ValueError(f"case: got {unknown[0]}; allowed: {min(CASES)} to {max(CASES)}")
    clean = observe(config, flow_seed)
    for seed in seeds:
        pairs = clean
        if config.noise > 0:
            pairs = clean.noisy(config.noise, torch.Generator().manual_seed(seed))
        states = States(pairs, config, torch.Generator().manual_seed(seed))
        for number in cases:
            begin = time.perf_counter()
            discovery = discover_from(states, CASES[number].model, config, seed)
            seconds = time.perf_counter() - begin
            found = score(discovery.error, CASES[number].error)
            yield Result(number, seed, found, discovery, seconds)
