"""What guesses of parameters predict for records, and how far that is from the readings.

A record is a sequence of controls, each held for one control interval, and of readings, each made
at the end of one. Many records, and for each many guesses, are simulated in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from separatrix.envs.core.inputs import read_numbers
from separatrix.envs.core.registration import suggest
from separatrix.envs.core.state import take
from separatrix.envs.core.system import System
from separatrix.envs.twin.assimilate.observation import observe, read_operator
from separatrix.envs.twin.assimilate.priors import InitialFactor, Prior
from separatrix.envs.twin.assimilate.reading_error import ReadingError, Whitening


class Misfit:
    """Predictions of records as a function of unknowns in standard deviations of their priors.

    Args:
        system: The physics, of one environment for each record, or alike in all.
        initial: States at the start, one a record.
        controls: One row of controls for each interval and record.
        observations: Readings after each interval; NaN where one is missing.
        parameters: Names of parameters to estimate, and their priors.
        factors: Names of factors of the initial states, and what they are.
        error: What is known of the error of readings.
        operator: What is observed; see `separatrix.envs.twin.assimilate.twin.Twin`.

    Attributes:
        names: Of the unknowns: parameters, then factors.
        priors: Of the unknowns, in this order.
        low: Smallest unknowns, (record, unknown).
        high: Largest ones.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        system: System,
        initial: Any,
        controls: Any,
        observations: Any,
        *,
        parameters: Mapping[str, Prior],
        factors: Mapping[str, InitialFactor],
        error: ReadingError,
        operator: Any,
    ) -> None:
        self.system, self.initial = system, initial
        self._parameters, self._factors = dict(parameters), dict(factors)
        both = sorted(parameters.keys() & factors.keys())
        if both or not (parameters or factors):
            got = f"{both[0]!r} twice" if both else "none"
            raise ValueError(
                f"parameters, factors: got {got}; allowed: different names, at least 1"
            )
        for name in parameters:
            if name not in system.parameters:
                raise ValueError(f"unknown parameter {name!r}; {suggest(name, system.parameters)}")
        self.names = (*parameters, *factors)
        self.priors = (*parameters.values(), *(factor.prior for factor in factors.values()))
        self.records = records = len(initial.interval)
        if system.num_envs != records and system.select(torch.arange(1)) is not system:
            got = f"{system.num_envs} environments that differ"
            raise ValueError(f"system: got {got}; allowed: {records}, one for each record")
        self._controls = _read("controls", controls, records).to(system.device, system.dtype)
        found = _read("observations", observations, records).double()
        components = system.values(initial).shape[1]
        for name, factor in factors.items():
            if not factor.components or not set(factor.components) <= set(range(components)):
                got = f"{name!r}: got components {factor.components!r}"
                raise ValueError(f"{got}; allowed: 0 to {components - 1}")
        self._operator = read_operator(operator, components, system.device)
        seen = observe(self._operator, system, initial).shape[1]
        if found.shape != (len(self._controls), records, seen) or found.isinf().any():
            got = "infinity" if found.isinf().any() else f"shape {tuple(found.shape)}"
            allowed = (len(self._controls), records, seen)
            raise ValueError(f"observations: got {got}; allowed: shape {allowed}, finite or NaN")
        self._whiten = Whitening(error, ~found.isnan())
        unread = (~self._whiten.present.any(0).any(1)).nonzero()
        if len(unread):
            raise ValueError(f"observations: got no reading of record {int(unread[0])}")
        self._observations = (found - error.mean)[self._whiten.used]
        bounds = torch.stack([prior.bounds(records) for prior in self.priors], 1)
        self.low, self.high = bounds.unbind(2)

    def predictions(
        self, z: Float64[Tensor, "record copy unknown"], rows: Int64[Tensor, " record"]
    ) -> Float64[Tensor, "used record copy observation"]:
        """Simulates guesses of some records.

        Args:
            z: The guesses.
            rows: Which records they are of.
        """
        copies = z.shape[1]
        wide = rows.repeat_interleave(copies)
        values = {
            name: _pick(prior, z[..., i], rows, self.records).flatten()
            for i, (name, prior) in enumerate(zip(self.names, self.priors, strict=True))
        }
        device = self.system.device
        system = self.system.select(wide.to(device)).with_parameters(
            {name: values[name] for name in self._parameters}, len(wide)
        )
        state = take(self.initial, wide.to(device))
        if self._factors:
            components = system.values(state).clone()
            for name, factor in self._factors.items():
                chosen = list(factor.components)
                scale = values[name][:, None].to(components)
                components[:, chosen] = components[:, chosen] * scale
            state = system.with_values(state, components)
        used, found = set(self._whiten.used.tolist()), []
        for interval in range(max(used) + 1):
            state = system.advance(state, self._controls[interval].index_select(0, wide.to(device)))
            if interval in used:
                found.append(observe(self._operator, system, state))
        return torch.stack(found).to("cpu", torch.float64).unflatten(1, (len(rows), copies))

    def white(
        self,
        predictions: Float64[Tensor, "used record copy observation"],
        rows: Int64[Tensor, " record"],
    ) -> Float64[Tensor, "record copy reading"]:
        """Returns prediction less reading, made white; zero where there is no reading."""
        difference = predictions - self._observations[:, rows, None]
        return self._whiten(difference, rows).permute(1, 2, 0, 3).flatten(2)

    def missing(self, rows: Int64[Tensor, " record"]) -> Tensor:
        """Tells which white differences are zero for lack of a reading, (record, reading)."""
        present = self._whiten.present[self._whiten.used][:, rows]
        return ~present.permute(1, 0, 2).flatten(1)

    def residuals(
        self, predictions: Float64[Tensor, "used record observation"]
    ) -> Float64[Tensor, "interval record observation"]:
        """Returns reading less prediction at all intervals, NaN where no reading was used."""
        found = torch.full(self._whiten.present.shape, torch.nan, dtype=torch.float64)
        found[self._whiten.used] = self._observations - predictions
        return torch.where(self._whiten.present, found, torch.nan)


def _read(name: str, value: Any, records: int) -> Float[Tensor, "interval record column"]:
    found = read_numbers(name, value)
    if found.ndim != 3 or found.shape[1] != records or not len(found):
        got = f"{name}: got shape {tuple(found.shape)}"
        raise ValueError(f"{got}; allowed: (interval, {records}, {name[:-1]})")
    if name == "controls" and not found.isfinite().all():
        raise ValueError("controls: got NaN or infinity; allowed: finite numbers")
    return found


def _pick(prior: Prior, z: Tensor, rows: Tensor, records: int) -> Tensor:
    """Decodes unknowns of some records by a prior whose middle may differ between all of them."""
    full = z.new_zeros((records, z.shape[1])).index_copy(0, rows, z)
    return prior.decode(full)[rows]
