"""Writes the kernel of the gradients of a periodic PDE's control interval.

The interval is run anew, all values that products take are remembered, and the gradients go back
through it, stage by stage: multipliers become their conjugates, transposed where they couple
fields, and a product the transpose of its derivative.

Gradients by spectra are kept as multiples of what they are: by the real and imaginary part of the
coefficient of exp(i k x), divided by the number of points and, where the coefficient stands for its
conjugate too, by 2. So the transpose of finding modes is making a field of modes, and the other way
round, without any factors between.
"""

from __future__ import annotations

import operator

import sympy

from separatrix.envs.steppers.spectral_layout import indent
from separatrix.envs.steppers.spectral_modes import Modes
from separatrix.envs.steppers.spectral_program import SpectralProgram
from separatrix.envs.steppers.spectral_source import Kernel
from separatrix.envs.steppers.symbolic import symbols

_CONTROL_GRADIENT = """
for j in range(min({lanes}, count - {lanes} * block)):
    for q in range({controls}):
        total = T(0)
        for f in range({fields}):
            for r in range({rows}):
                for part in range(2):
                    i = {rows} * (2 * ({fields} * q + f) + part) + r
                    total += d[i] * w[{place} + {step} * (2 * ({rows} * f + r) + part) + j]
        control_gradient[{lanes} * block + j, q] = total
"""

_CONTROL_GRADIENT_PLANE = """
for q in range({controls}):
    total = T(0)
    for f in range({fields}):
        for r in range({rows}):
            for part in range(2):
                i = {width} * ({rows} * (2 * ({fields} * q + f) + part) + r)
                j = {place} + {step} * (2 * ({rows} * f + r) + part)
                for k in range({modes}):
                    total += d[i + k] * w[j + k]
    control_gradient[block, q] = total
"""


class Adjoint(Kernel):
    """The parts of the source of the kernel of gradients.

    Args:
        program: What to compute.
        dtype: "float32" or "float64".
    """

    arguments = (
        "field, control, gradient, m, a, d, t, half, whole, substeps, "
        "field_gradient, control_gradient"
    )

    def __init__(self, program: SpectralProgram, dtype: str) -> None:
        super().__init__(program, dtype)
        self.stages = range(len(program.stages))
        self._stage_size = program.num_inputs * self.layout.field_size

    def source(self) -> str:
        """Returns the module's source, in which `blocks` finds the gradients of an interval."""
        memory = len(self.stages) * self._stage_size
        remember = f"memory = {self.layout.size} + {memory} * step_number"
        body = [
            *self.load("field"),
            *self.hold(),
            *self.begin(),
            "for step_number in range(substeps):",
            *indent([remember, *self.step()], 1),
            *self.load("gradient"),
            *self._begin_back(),
            "for step_number in range(substeps - 1, -1, -1):",
            *indent([remember, *self._step_back()], 1),
            *self.end(),
            *self.store("field_gradient"),
            *self.fill(
                _CONTROL_GRADIENT_PLANE if self.layout.plane else _CONTROL_GRADIENT, self.force[0]
            ),
        ]
        return self.module(body, f"{self.layout.size} + {memory} * substeps")

    def taken(self, s: int, i: int) -> str:
        """Returns the source of the place of the values of input i in stage s."""
        return f"memory + {s * self._stage_size + i * self.layout.field_size}"

    def _begin_back(self) -> list[str]:
        """Starts with the gradient that was loaded; none so far by the force."""
        modes = Modes(self.layout)
        for f in self.fields:
            modes.read(f"x{f}", self.after[f], "e")
            modes.set(f"u{f}", [f"scale * x{f}"])
            modes.write(self.spectrum[f], f"u{f}")
            modes.write(self.force[f], "pair(zero, zero)")
        return modes.source()

    def _step_back(self) -> list[str]:
        """Goes back through one time step."""
        gradients = symbols("g", [str(p) for p in self.outputs])
        weighted = sum(map(operator.mul, gradients, self.products), sympy.S.Zero)
        transposed = [sympy.diff(weighted, symbol) for symbol in self.symbols]
        lines = list[str]()
        for s in reversed(self.stages):
            lines += self._retreat(s)
            lines += [self.synthesize(self.before[p], str(self.values[p])) for p in self.outputs]
            places = {symbol: self.taken(s, i) for i, symbol in enumerate(self.symbols)}
            places |= {symbol: str(self.values[p]) for p, symbol in enumerate(gradients)}
            lines += self.pointwise(transposed, places)
            lines += [self.analyze(self.values[i], self.after[i]) for i in self.inputs]
        modes = Modes(self.layout, adjoint=True)
        for f in self.fields:
            state = modes.read(f"u{f}", self.spectrum[f])
            modes.set(f"x{f}", [state, *self._through_inputs(modes, f)])
            modes.write(self.spectrum[f], f"x{f}")
        return lines + modes.source()

    def _retreat(self, s: int) -> list[str]:
        """Goes back from the state after stage s to the products of stage s.

        The gradient by the state at the start of the time step gathers in `spectrum`.
        """
        program, modes = self.program, Modes(self.layout, adjoint=True)
        stage, later = program.stages[s], program.stages[s + 1 :]
        for f in self.fields:
            state = modes.read(f"u{f}", self.spectrum[f])
            modes.set(f"x{f}", self._through_inputs(modes, f) if later else [state])
        result = [f"x{f}" for f in self.fields]
        for f in self.fields:
            terms = modes.stage(stage.state, result, f)
            modes.set(f"z{f}", [f"u{f}", *terms] if later else terms)
            modes.write(self.spectrum[f], f"z{f}")
        for j in sorted({*stage.slopes, s}):
            for f in self.fields:
                terms = modes.stage(stage.slopes[j], result, f) if j in stage.slopes else []
                if any(j in row.slopes for row in later):
                    terms.append(modes.read(f"n{j}_{f}", self.slopes[j][f]))
                modes.set(f"n{j}_{f}", terms)
                modes.write(self.slopes[j][f], f"n{j}_{f}")
        for f in self.fields:
            force = modes.read(f"f{f}", self.force[f])
            modes.write(self.force[f], f"{force} + n{s}_{f}")
        for p in self.outputs:
            terms = list[str]()
            for (f, column), multiplier in program.outputs.items():
                if column == p:
                    terms += modes.times(multiplier, f"n{s}_{f}")
            modes.write(self.before[p], modes.set(f"p{p}", terms), "e")
        return modes.source()

    def _through_inputs(self, modes: Modes, f: int) -> list[str]:
        """Adds reading what came back through the inputs; returns the terms of a field."""
        terms = list[str]()
        for (i, column), multiplier in self.program.inputs.items():
            if column == f:
                value = modes.read(f"y{i}", self.after[i], "e")
                terms += modes.times(multiplier, f"(scale * {value})")
        return terms
