"""A page for every registered environment, from its docstring, definition, options and gates."""

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

import sympy
from sympy.core.alphabets import greeks
from validation_page import Gate, gate_table

from separatrix.envs.core.registration import Registration, make_environment
from separatrix.envs.steppers.lattice_system import LatticeSystem
from separatrix.envs.steppers.ode import Group, OdeDefinition
from separatrix.envs.steppers.ode_system import OdeSystem
from separatrix.envs.steppers.spectral_system import SpectralSystem
from separatrix.envs.steppers.symbolic import trace
from separatrix.envs.streams.environment import StreamEnvironment
from separatrix.envs.streams.stream import TaskStream
from separatrix.envs.twin.glucose import model as glucose_model
from separatrix.envs.twin.glucose.system import GlucoseSystem

LONGEST = 400
"""Characters of LaTeX; the right-hand side of a longer equation is not printed."""
SHOWN = 3
"""Equations printed of a long group of alike components, beside its last."""

PAGE = """\
# {name}

{title}

![A free episode, a controlled one, and the picture that the environment renders]({name}.png)

{caption}
```python
import gymnasium as gym
import separatrix

env = gym.make("{id}")
envs = gym.make_vec("{id}", num_envs=1024, output="torch")
```

{body}

{equations}## Options

Keywords of `gym.make`, `gym.make_vec` and `make_environment`. A parameter of the system is a
number, or one for each environment of a batch.

| option | default |
| --- | --- |
{options}

## Physics gates

{gates}
"""
CAPTION = """\
Left: an episode without control; of a field on a plane, how it ends. Middle: the same start under
LQR, of bodies in a stream under feedback of their lift, of patients under boluses, of language
models under a search one token ahead, or under random actions where the task has no equilibrium to
linearize at, which is dashed, or a star. If LQR does not reach it from the environment's own start,
both start near it, but for fields. Right: `env.render()` when the left one ends.
"""
NAVIER_STOKES = r"""
$$
\begin{aligned}
\partial_t u + (u \cdot \nabla) u &= -\nabla p + \tfrac{1}{\mathrm{Re}} \nabla^2 u \\
\nabla \cdot u &= 0
\end{aligned}
$$""".strip()
EQUATIONS = """\
## Equations

{printed}

```text
{source}
```

"""
TASKS = """\
## Tasks

The pictures above show task 0. {origin}

| task | {names} | random | reference |
| ---: | {rule} | ---: | ---: |
{rows}

"""
MEASURED = """\
The last two columns are mean returns, which `find_stream("{name}").scores` takes for 0 and 1: of
random actions, {random_episodes} episodes, and of `{controller}`{settings}, which knows the
parameters, {episodes} episodes."""
UNMEASURED = "No returns were measured."


def page_name(entry: Registration) -> str:
    """Returns the id without its namespace, which names the page, the picture and the gates."""
    return entry.id.rpartition("/")[2]


def index(entries: Iterable[Registration]) -> str:
    """Returns the page that lists all environments."""
    return f"# Environments\n\n{table(entries, '')}\n"


def table(entries: Iterable[Registration], folder: str) -> str:
    """Lists environments with links to their pages.

    Args:
        entries: The environments.
        folder: Where the pages are, from the page that holds the table.
    """
    lines = [
        "| environment | task | states | controls | steps |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for entry in entries:
        link = f"[{entry.id}]({folder}{page_name(entry)}.md)"
        lines.append(
            f"| {link} | {entry.summary} | {entry.states} | {entry.controls} | {entry.horizon} |"
        )
    return "\n".join(lines)


def page(entry: Registration, gates: Sequence[Gate]) -> str:
    """Returns the page of an environment.

    Args:
        entry: The environment.
        gates: Its physics gates.
    """
    environment = make_environment(entry.id)
    title, _, body = (inspect.getdoc(entry.documented) or "").partition("\n\n")
    equations = ""
    module = inspect.getmodule(entry.documented)
    source = inspect.cleandoc((module and module.__doc__) or "")
    if isinstance(environment, StreamEnvironment):
        equations = _tasks(environment.stream)
    elif isinstance(environment.system, OdeSystem | SpectralSystem):
        equations = EQUATIONS.format(printed=_printed(environment.system), source=source)
    elif isinstance(environment.system, LatticeSystem):
        equations = EQUATIONS.format(printed=NAVIER_STOKES, source=source)
    elif isinstance(environment.system, GlucoseSystem):
        source = inspect.cleandoc(glucose_model.__doc__ or "")
        equations = EQUATIONS.format(printed="", source=source)
    options = [f"| `{name}` | {_value(value)} |" for name, value in entry.options.items()]
    return PAGE.format(
        name=page_name(entry),
        id=entry.id,
        title=title,
        caption=CAPTION,
        body=body,
        equations=equations,
        options="\n".join(options),
        gates=gate_table(gates).strip() if gates else "None recorded.",
    )


def latex_name(name: str) -> str:
    """Writes the name of a component or parameter: a letter, perhaps Greek, or a word."""
    if re.sub(r"\d+$", "", name) in greeks or re.fullmatch(r"[A-Za-z]\d*", name):
        return str(sympy.latex(sympy.Symbol(name)))
    return r"\mathrm{" + name.replace("_", r"\ ") + "}"


def latex_equations(definition: OdeDefinition) -> list[str] | None:
    """Prints the equations of motion; None if one is too long to be read."""
    program = trace(definition)
    names = {
        symbol: latex_name(symbol.name.partition("_")[2])
        for symbol in (*program.state, *program.control, *program.parameter)
    }
    printed = []
    for symbol, value in zip(program.state, program.vector_field, strict=True):
        right = sympy.latex(value, symbol_names=names)
        if len(right) > LONGEST:
            return None
        name = names[symbol]
        left = rf"{name} &\mapsto" if definition.discrete else rf"\dot{{{name}}} &="
        printed.append(f"{left} {right}")
    return printed


def _tasks(stream: TaskStream) -> str:
    """Lists the tasks of a stream, and the returns of reference where they were measured."""
    found = stream.references
    origin = UNMEASURED
    if found:
        chosen = ", ".join(f"{name} {value}" for name, value in found["settings"].items())
        settings = f" ({chosen})" if chosen else ""
        name = stream.id.rpartition("/")[2]
        origin = MEASURED.format(**{**found, "name": name, "settings": settings})
    columns = [map(_value, values) for values in stream.parameters.values()]
    returns = [
        [f"{value:.4g}" for value in found.get(name, ())] for name in ("random", "reference")
    ]
    rows = [
        f"| {task} | {' | '.join(values)} | {' | '.join((*measured, '', '')[:2])} |"
        for task, values in enumerate(zip(*columns, strict=True))
        for measured in [[column[task] for column in returns if task < len(column)]]
    ]
    return TASKS.format(
        origin=origin.replace("\n", " "),
        names=" | ".join(f"`{name}`" for name in stream.parameters),
        rule=" | ".join("---:" for _ in stream.parameters),
        rows="\n".join(rows),
    )


def _printed(system: OdeSystem | SpectralSystem) -> str:
    if isinstance(system, SpectralSystem):
        return _printed_grid(system)
    definition = system.definition
    controls = _names(definition.controls) or "none"
    heading = f"States {_names(definition.states)}; controls {controls}."
    equations = latex_equations(definition)
    if equations is None:
        return f"{heading} The equations of motion are those below."
    if len(equations) > 2 * SHOWN:
        equations = [*equations[:SHOWN], r"&\;\;\vdots", equations[-1]]
    lines = " \\\\\n".join(equations)
    return (
        f"{heading} As the package computes them:\n\n"
        f"```math\n\\begin{{aligned}}\n{lines}\n\\end{{aligned}}\n```\n\n"
        "As their author wrote them, with source and parameters:"
    )


def _printed_grid(system: SpectralSystem) -> str:
    definition, grid = system.definition, system.grid
    names = ", ".join(f"`{name}`" for name in definition.fields)
    step = system.control_interval / system.substeps
    return (
        f"Fields {names} at {' x '.join(map(str, grid.shape))} points, of whose waves those up to "
        f"{grid.highest(definition.degree)} in the box are kept, so that no product is aliased. "
        f"Steps of {step:.4g} by `{system.integrator}`."
    )


def _names(groups: Sequence[Group]) -> str:
    return ", ".join(
        f"`{group.name}`" + (f" ({group.size} components)" if group.size else "")
        for group in groups
    )


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"`{value:.6g}`"
    if isinstance(value, tuple) and len(value) > 2 * SHOWN and len(set(value)) == 1:
        return f"`({value[0]},) * {len(value)}`"
    return f"`{value}`"
