"""Bodies in a stream: kernels against the reference, conservation, and gradients."""

from __future__ import annotations

from itertools import product
from typing import Any

import numba
import pytest
import torch
from torch import Tensor

from separatrix.envs.steppers import lattice_numba
from separatrix.envs.steppers.lattice import VELOCITIES, Actuator, Disc, Domain, equilibrium
from separatrix.envs.steppers.lattice_numba import LatticeNumbaStepper
from separatrix.envs.steppers.lattice_program import LatticeProgram, compile_lattice
from separatrix.envs.steppers.lattice_torch import LatticeTorchStepper

DISCS = (Disc(1.2, 1.1), Disc(2.6, 1.9))
ACTUATORS = (
    Actuator(0, 0),
    Actuator(0, 1, "jet", 90.0, 70.0, 1.0),
    Actuator(0, 1, "jet", 270.0, 70.0, -1.0),
    Actuator(1, 2),
)
INFLOWS, SIDES = ("parabola", "uniform", "periodic"), ("no_slip", "slip", "open", "periodic")
KEEP = 0.9


def program_of(inflow: str, sides: str, bodies: tuple[Disc, ...] = DISCS) -> LatticeProgram:
    domain = Domain(4.0, 3.0, inflow, sides, bodies)
    return compile_lattice(domain, ACTUATORS if bodies else (), 6, 0.1)


def steppers(
    program: LatticeProgram, substeps: int, dtype: torch.dtype = torch.float64
) -> tuple[LatticeTorchStepper, LatticeNumbaStepper]:
    reference = LatticeTorchStepper(program, KEEP, substeps, torch.device("cpu"), dtype)
    return reference, LatticeNumbaStepper(program, KEEP, substeps, dtype)


def drawn(
    program: LatticeProgram, batch: int = 3, rows: int = 3, size: float = 0.005
) -> tuple[Tensor, ...]:
    """Populations of disturbed flow, controls in force, their targets, and rates."""
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    noise = size * draw(batch, 9, program.rows + 2, program.columns + 2)
    stream = torch.as_tensor(equilibrium(0.1))[:, None, None] + noise
    control, target = draw(batch, program.controls), draw(batch, program.controls)
    rate = torch.linspace(1.5, 1.9, rows, dtype=torch.float64)
    # Only after a step are all ghosts zero that no step reads.
    return steppers(program, 1)[0](stream, control, control, rate)[0], control, target, rate


def momentum(populations: Tensor) -> Tensor:
    """Of the sites in the box."""
    velocities = torch.as_tensor(VELOCITIES, dtype=populations.dtype)
    return torch.einsum("bnyx,nc->bc", populations[:, :, 1:-1, 1:-1], velocities)


def mass(populations: Tensor) -> Tensor:
    """Of the sites in the box, above that of the fluid at rest."""
    return populations[:, :, 1:-1, 1:-1].sum((1, 2, 3))


def close(ours: Any, expected: Any, tolerance: float) -> None:
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * b.abs().max().item())


@pytest.mark.parametrize(("inflow", "sides"), list(product(INFLOWS, SIDES)))
def test_kernel_is_the_reference(inflow: str, sides: str) -> None:
    program = program_of(inflow, sides)
    for substeps, rows in ((5, 3), (6, 1)):
        inputs = drawn(program, rows=rows)
        exact, kernel = steppers(program, substeps)
        expected = exact(*inputs)
        assert expected[2].abs().min() > 0
        torch.testing.assert_close(kernel(*inputs), expected, rtol=0, atol=1e-13)
        _, kernel = steppers(program, substeps, torch.float32)
        rounded = tuple(tensor.double() for tensor in kernel(*(x.float() for x in inputs)))
        close(rounded, expected, 1e-5)


@pytest.mark.parametrize(
    "dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.slow)]
)
def test_rows_are_the_same_alone_and_in_threads(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_of("uniform", "open")
    inputs = tuple(x.to(dtype) for x in drawn(program, batch=5, rows=5))
    _, kernel = steppers(program, 4, dtype)

    def run(which: slice) -> list[Tensor]:
        given = [x[which].clone().requires_grad_() for x in inputs]
        found = kernel(*given)
        return [*found, *torch.autograd.grad([x.square().sum() for x in found], given)]

    expected = run(slice(None))
    for row in range(5):
        for a, b in zip(run(slice(row, row + 1)), expected, strict=True):
            assert torch.equal(a[0], b[row])
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    monkeypatch.setattr(lattice_numba, "THREADED_FROM", 0)
    for a, b in zip(run(slice(None)), expected, strict=True):
        assert torch.equal(a, b)


def test_a_row_that_is_lost_spoils_no_other() -> None:
    program = program_of("parabola", "no_slip")
    inputs = drawn(program)
    _, kernel = steppers(program, 5)
    found = []
    for lost in (inputs[0][1], torch.full_like(inputs[0][1], torch.nan)):
        populations = inputs[0].clone()
        populations[1] = lost
        given = [x.clone().requires_grad_() for x in (populations, *inputs[1:])]
        outputs = kernel(*given)
        gradients = torch.autograd.grad(outputs[0].sum() + outputs[2].sum(), given)
        found.append([x[[0, 2]] for x in (*outputs, *gradients)])
    for expected, ours in zip(*found, strict=True):
        assert torch.equal(ours, expected) and expected.isfinite().all()


@pytest.mark.parametrize(
    ("inflow", "sides"), [("parabola", "no_slip"), ("uniform", "open"), ("periodic", "slip")]
)
@pytest.mark.parametrize(("substeps", "rows"), [(1, 1), (7, 3), (12, 1)])
def test_gradients_are_the_reference_s(inflow: str, sides: str, substeps: int, rows: int) -> None:
    program = program_of(inflow, sides)
    given = [x.requires_grad_() for x in drawn(program, rows=rows)]
    generator = torch.Generator().manual_seed(8)
    outputs = [stepper(*given) for stepper in steppers(program, substeps)]
    weights = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in outputs[0]]
    # Of everything, then of the force alone, on which after one step the rate has no influence.
    for part in (slice(None), slice(2, 3)):
        expected, ours = (
            torch.autograd.grad(
                found[part], given, weights[part], retain_graph=True, materialize_grads=True
            )
            for found in outputs
        )
        close(ours, expected, 1e-12)


def test_gradients_are_finite_differences() -> None:
    program = program_of("uniform", "open")
    inputs = drawn(program)
    _, kernel = steppers(program, 7)
    generator = torch.Generator().manual_seed(9)

    def cost(*given: Tensor) -> Tensor:
        populations, control, force = kernel(*given)
        return populations.square().sum() + control.square().sum() + force.square().sum()

    gradients = torch.autograd.grad(cost(*(x.requires_grad_() for x in inputs)), inputs)
    for index, (tensor, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        change = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        change *= 1e-5 * tensor.detach().abs().max()
        costs = []
        for sign in (1, -1):
            moved = [x.detach() for x in inputs]
            moved[index] = moved[index] + sign * change
            costs.append(cost(*moved))
        expected = (costs[0] - costs[1]) / 2
        torch.testing.assert_close((gradient * change).sum(), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("substeps", [4, 11])
def test_asking_for_gradients_changes_no_number(substeps: int) -> None:
    program = program_of("parabola", "no_slip")
    inputs = drawn(program)
    for stepper in steppers(program, substeps):
        expected = stepper(*inputs)
        ours = stepper(*(x.clone().requires_grad_() for x in inputs))
        for a, b in zip(ours, expected, strict=True):
            assert a.requires_grad and torch.equal(a.detach(), b)


def test_what_the_kernel_cannot_take_raises() -> None:
    program = program_of("parabola", "no_slip")
    populations, control, target, rate = drawn(program)
    _, kernel = steppers(program, 2)
    with pytest.raises(ValueError, match=r"populations: got float32 of shape .*; allowed: float64"):
        kernel(populations.float(), control, target, rate)
    with pytest.raises(ValueError, match=r"target: got .* of shape \(3, 1\); allowed: .*\(3, 3\)"):
        kernel(populations, control, target[:, :1].contiguous(), rate)
    with pytest.raises(ValueError, match=r"rate: got .* of shape \(2,\); allowed: .*\(3,\)"):
        kernel(populations, control, target, rate[:2].contiguous())


def test_a_resolution_that_splits_no_side_raises() -> None:
    for domain, name in ((Domain(4.1, 3, "uniform", "open"), "length"),
                         (Domain(4, 3.1, "uniform", "open"), "height")):  # fmt: skip
        with pytest.raises(ValueError, match=rf"resolution: got 6; allowed: .* {name} of the box"):
            compile_lattice(domain, (), 6, 0.1)


def test_periodic_boxes_keep_mass_and_momentum() -> None:
    program = program_of("periodic", "periodic", bodies=())
    inputs = drawn(program)
    populations, _, force = steppers(program, 200)[1](*inputs)
    assert force.shape == (3, 0, 2)
    assert (populations - inputs[0]).abs().max() > 1e-3
    torch.testing.assert_close(mass(populations), mass(inputs[0]), rtol=0, atol=1e-12)
    torch.testing.assert_close(momentum(populations), momentum(inputs[0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sides", ["no_slip", "slip"])
def test_sides_keep_mass(sides: str) -> None:
    program = program_of("periodic", sides, bodies=())
    inputs = drawn(program)
    populations = steppers(program, 200)[1](*inputs)[0]
    torch.testing.assert_close(mass(populations), mass(inputs[0]), rtol=0, atol=1e-12)
    if sides == "slip":
        along = momentum(populations)[:, 0]
        torch.testing.assert_close(along, momentum(inputs[0])[:, 0], rtol=0, atol=1e-12)


def test_bodies_take_the_momentum_that_the_fluid_loses() -> None:
    """Exactly if they stand still: the force on what moves leaves out what the motion carries."""
    program = program_of("periodic", "periodic")
    populations, control, _, rate = drawn(program)
    still = torch.zeros_like(control)
    moved, _, force = steppers(program, 20)[1](populations, still, still, rate)
    lost = momentum(populations) - momentum(moved)
    assert lost.abs().min() > 0.1
    torch.testing.assert_close(20 * force.sum(1), lost, rtol=0, atol=1e-12)


def test_fluid_at_rest_stays_at_rest() -> None:
    for sides in ("no_slip", "slip", "periodic"):
        program = program_of("periodic", sides)
        populations = torch.zeros_like(drawn(program)[0])
        control, rate = torch.zeros(3, program.controls, dtype=torch.float64), drawn(program)[3]
        for tensor in steppers(program, 10)[1](populations, control, control, rate):
            assert not tensor.any()


def centred(*actuators: Actuator) -> LatticeProgram:
    domain = Domain(4.0, 3.0, "periodic", "periodic", (Disc(2.0, 1.5),))
    return compile_lattice(domain, actuators, 6, 0.1)


def moved_from_rest(program: LatticeProgram, velocity: float) -> tuple[Tensor, ...]:
    populations = torch.zeros(1, 9, program.rows + 2, program.columns + 2, dtype=torch.float64)
    control = torch.full((1, 1), velocity, dtype=torch.float64)
    rate = torch.tensor([1.7], dtype=torch.float64)
    moved: tuple[Tensor, ...] = steppers(program, 100)[1](populations, control, control, rate)
    return moved


def test_a_disc_that_rotates_in_fluid_at_rest_feels_no_net_force() -> None:
    populations, _, force = moved_from_rest(centred(Actuator(0, 0)), 1.0)
    assert populations.abs().max() > 1e-3
    assert force.abs().max() < 1e-14


def test_opposite_jets_let_no_net_mass_in() -> None:
    """To first order in their velocity, and push along their axis."""
    upper, lower = Actuator(0, 0, "jet", 90, 70), Actuator(0, 0, "jet", 270, 70, -1)
    alone, _, _ = moved_from_rest(centred(upper), 1e-6)
    both, _, force = moved_from_rest(centred(upper, lower), 1e-6)
    assert mass(both).abs() < 1e-5 * mass(alone)
    assert force[0, 0, 1] < 0 and force[0, 0, 0].abs() < 1e-9 * force[0, 0, 1].abs()
