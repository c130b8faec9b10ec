"""A sparse model: a library of functions and coefficients, to be run, read and taken elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.sparse.library import Library, check_names
from separatrix.agents.common.sparse.serialization import library_from_data, library_to_data

AGGREGATES = ("median", "mean")


@dataclass(frozen=True, eq=False)
class SparseModel:
    """Targets as sparse linear combinations of the features of a library.

    The targets are what the model was fitted to: next states, derivatives, a reward, an action.

    Attributes:
        library: The features.
        members: Coefficients of every member of an ensemble; of one fit, `coefficients[None]`.
        targets: Names of the targets.
        controls: Those inputs of the library that are controls; the others are states. Exported
            functions take both apart.
        aggregate: "median" or "mean": how the members' coefficients make the model's, each alone.

    Raises:
        ValueError: A shape, a name or a number is not allowed.
    """

    library: Library
    members: Float[Tensor, "members targets features"]
    targets: tuple[str, ...]
    controls: tuple[str, ...] = ()
    aggregate: str = "median"

    def __post_init__(self) -> None:
        check_names(self.targets)
        expected = (len(self.targets), self.library.num_features)
        if self.members.ndim != 3 or self.members.shape[1:] != expected or len(self.members) == 0:
            raise ValueError(
                f"members: got shape {tuple(self.members.shape)}; allowed: (members, "
                f"{expected[0]} targets, {expected[1]} features)"
            )
        if not (self.members.is_floating_point() and self.members.isfinite().all()):
            raise ValueError("members: got NaN, infinity or no floats; allowed: finite floats")
        if not set(self.controls) < set(self.library.names) or len(set(self.controls)) != len(
            self.controls
        ):
            raise ValueError(
                f"controls: got {self.controls!r}; allowed: different ones, but not all, of "
                f"{', '.join(self.library.names)}"
            )
        if self.aggregate not in AGGREGATES:
            raise ValueError(f"aggregate: got {self.aggregate!r}; allowed: {', '.join(AGGREGATES)}")

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the inputs that are not controls, in order."""
        return tuple(name for name in self.library.names if name not in self.controls)

    @cached_property
    def coefficients(self) -> Float[Tensor, "targets features"]:
        """The members' coefficients, aggregated."""
        if self.aggregate == "mean":
            return self.members.mean(0)
        # torch.median takes the lower of two middle values; this is their mean.
        ordered, half = self.members.sort(0).values, len(self.members) // 2
        return (ordered[half] + ordered[-half - 1]) / 2

    @property
    def inclusion(self) -> Float[Tensor, "targets features"]:
        """Share of the members in which a feature takes part."""
        return (self.members != 0).to(self.members.dtype).mean(0)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> SparseModel:
        """Returns the model on a device and in a dtype, which then have no copy a call."""
        return replace(self, members=self.members.to(device, dtype))

    def predict(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch targets"]:
        """Evaluates the model, differentiably, in the dtype and on the device of the inputs.

        Args:
            inputs: Values in the order of `library.names`.

        Raises:
            ValueError: The inputs have another shape or are no floats.
        """
        # Coefficients times component-major features: the other way round is 50 times slower.
        rows = self.coefficients.to(inputs) @ self.library.flat_rows(inputs)
        return rows.T.reshape(*inputs.shape[:-1], len(self.targets))

    def predict_members(
        self, inputs: Float[Tensor, "*batch inputs"]
    ) -> Float[Tensor, "members *batch targets"]:
        """Evaluates every member.

        Args:
            inputs: Values in the order of `library.names`.

        Raises:
            ValueError: The inputs have another shape or are no floats.
        """
        rows = self.members.to(inputs).flatten(0, 1) @ self.library.flat_rows(inputs)
        rows = rows.unflatten(0, (len(self.members), len(self.targets)))
        return rows.mT.reshape(len(self.members), *inputs.shape[:-1], len(self.targets))

    def equations(self, digits: int = 4) -> tuple[str, ...]:
        """Returns every target as text, such as `dx = -10 x + 10 y`.

        Args:
            digits: Significant digits of the coefficients.
        """
        lines = []
        for target, row in zip(self.targets, self.coefficients.tolist(), strict=True):
            text = ""
            for coefficient, name in zip(row, self.library.feature_names, strict=True):
                if coefficient:
                    sign = " - " if coefficient < 0 else " + "
                    text += f"{sign}{abs(coefficient):.{digits}g}"
                    text += "" if name == "1" else f" {name}"
            text = text.removeprefix(" + ").replace(" - ", "-", 1) if text[:3] == " - " else text
            lines.append(f"{target} = {text.removeprefix(' + ') or '0'}")
        return tuple(lines)

    def to_json(self) -> str:
        """Returns the model as JSON that holds every coefficient exactly.

        Raises:
            ValueError: A feature contains a function that cannot be written.
        """
        return json.dumps(
            {
                "library": library_to_data(self.library),
                "members": self.members.tolist(),
                "targets": self.targets,
                "controls": self.controls,
                "aggregate": self.aggregate,
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> SparseModel:
        """Reads what `to_json` wrote; the coefficients come on the CPU in float64.

        Raises:
            ValueError: The text is not such JSON.
        """
        try:
            data = json.loads(text)
            return cls(
                library=library_from_data(data["library"]),
                members=torch.tensor(data["members"], dtype=torch.float64),
                targets=tuple(data["targets"]),
                controls=tuple(data["controls"]),
                aggregate=data["aggregate"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no sparse model: {error!r}") from None

    def to_numpy_source(self) -> str:
        """Returns a Python module, which needs NumPy alone, with a function of the model.

        It is `step(state, control)`, or `step(state)` without controls, of arrays (..., state) and
        (..., control), and returns (..., targets).
        """
        from separatrix.agents.common.sparse.export import numpy_source

        return numpy_source(self)

    def to_c_source(self) -> str:
        """Returns C99 with `void step(const double *state, const double *control, double *next)`.

        Without controls that pointer is not read. `next` receives the targets and must not overlap
        the others. Link with -lm.
        """
        from separatrix.agents.common.sparse.export import c_source

        return c_source(self)
