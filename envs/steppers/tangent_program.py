"""The program of a system together with its derivatives, for kernels that give gradients.

Beside the state x runs the matrix X of its derivatives by the state at the start of the interval
and by the control that is held, which obeys the equation of variations

    X' = df/dx X + (0 | df/du),    X = (1 | 0) at the start.

Integrated by the scheme of the state, X at the end is the derivative of what the scheme computes,
not only of the exact flow. Of a map, X is replaced by the right-hand side as x is by f.
"""

from __future__ import annotations

import sympy

from separatrix.envs.steppers.symbolic import Program, jacobian, symbols


def tangent_program(program: Program) -> Program:
    """Returns a program without a task whose state is x followed by the rows of X.

    Args:
        program: The program of a system, with or without a task; its control is the action of the
            program that is returned.

    Raises:
        ValueError: The state of the system jumps.
    """
    if program.jump:
        raise ValueError("a system whose state jumps has no equation of variations")
    n, width = len(program.state), len(program.state) + len(program.control)
    columns = [str(k) for k in range(width)]
    tangents = [symbols(f"tangent{i}", columns) for i in range(n)]
    next_tangents = [symbols(f"next_tangent{i}", columns) for i in range(n)]
    entries = jacobian(program.vector_field, (*program.state, *program.control))
    vector_field = list(program.vector_field)
    for i in range(n):
        for k in range(width):
            terms = [
                entry * tangents[j][k] for (r, j), entry in entries.items() if r == i and j < n
            ]
            own = entries.get((i, k), sympy.S.Zero) if k >= n else sympy.S.Zero
            vector_field.append(sum(terms, own))
    action = symbols("a", [str(k) for k in range(len(program.control))])
    return Program(
        state=(*program.state, *sum(tangents, ())),
        control=program.control,
        next_state=(*program.next_state, *sum(next_tangents, ())),
        action=action,
        parameter=program.parameter,
        law=action,
        vector_field=tuple(vector_field),
    )
