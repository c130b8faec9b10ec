"""The lattice in Triton's interpreter; `test_lattice_triton.py` runs this in one."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from separatrix.envs.steppers.lattice import Actuator, Disc, Domain
from separatrix.envs.steppers.lattice_program import LatticeProgram, compile_lattice
from separatrix.envs.steppers.lattice_torch import LatticeTorchStepper
from separatrix.envs.steppers.lattice_triton import LatticeTritonStepper
from separatrix.envs.steppers.lattice_triton_kernel import BLOCK

CPU = torch.device("cpu")
PAIR = (Disc(1.2, 1.6), Disc(2.45, 1.7))
"""With a gap so narrow that links from one body end in the other."""
MOVES = (Actuator(0, 0), Actuator(1, 1, "jet", 90, 60), Actuator(1, 1, "jet", -90, 60, -1.0))
STEPPERS = (LatticeTritonStepper, LatticeTorchStepper)
COMBINATIONS = list(
    product(("parabola", "uniform", "periodic"), ("no_slip", "slip", "open", "periodic"))
)


def pair(inflow: str = "parabola", sides: str = "open") -> LatticeProgram:
    """Two bodies, one that turns and one with jets, in a box of one tile."""
    return compile_lattice(Domain(4, 3.5, inflow, sides, PAIR), MOVES, 4, 0.1)


def inputs(
    program: LatticeProgram, batch: int, dtype: torch.dtype, rates: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Populations, also where no fluid is, controls, targets and rates."""
    generator = torch.Generator().manual_seed(5)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    populations = torch.nn.functional.pad(
        0.01 * noise(batch, 9, program.rows, program.columns), (1, 1, 1, 1)
    )
    controls = (batch, program.controls)
    rate = 1.7 + 0.1 * torch.linspace(-1, 1, rates, dtype=dtype)
    return populations, noise(*controls), noise(*controls), rate


def agrees(program: LatticeProgram, substeps: int, dtype: torch.dtype, batch: int = 1) -> None:
    """To some roundings of the largest numbers."""
    arguments = inputs(program, batch, dtype, 1)
    before = [tensor.clone() for tensor in arguments]
    found, expected = (
        stepper(program, 0.7, substeps, CPU, dtype)(*arguments) for stepper in STEPPERS
    )
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype and one.shape == other.shape
        size = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(one, other, rtol=0, atol=2 * torch.finfo(dtype).eps * size)
    assert all(map(torch.equal, arguments, before))
    assert float(found[2].abs().min()) > 1e-4 if program.bodies else found[2].shape == (batch, 0, 2)


@pytest.mark.parametrize(("inflow", "sides"), COMBINATIONS)
def test_agrees_with_torch(inflow: str, sides: str) -> None:
    agrees(pair(inflow, sides), 3, torch.float64)


@pytest.mark.parametrize(("inflow", "sides"), COMBINATIONS[::3])
def test_agrees_with_torch_in_float32(inflow: str, sides: str) -> None:
    """And with an even number of time steps, and one rate for both environments."""
    agrees(pair(inflow, sides), 2, torch.float32, 2)


@pytest.mark.parametrize("sides", ["no_slip", "open"])
def test_agrees_where_every_list_has_many_blocks(sides: str) -> None:
    domain = Domain(1.4, 1.2, "uniform", sides, (Disc(0.65, 0.6),))
    program = compile_lattice(domain, (Actuator(0, 0),), 30, 0.05)
    links = program.walls.body
    lists = [int((links == 0).sum()), int((links < 0).sum()), len(program.copies.ghost)]
    assert lists[0] > BLOCK.value and max(lists[1:]) > BLOCK.value
    assert program.rows * program.columns > 5 * BLOCK.value
    agrees(program, 1, torch.float64)


@pytest.mark.parametrize("inflow", ["uniform", "periodic"])
def test_agrees_without_bodies(inflow: str) -> None:
    agrees(compile_lattice(Domain(3, 2, inflow, "periodic"), (), 4, 0.1), 2, torch.float64)


def test_every_environment_has_its_rate() -> None:
    program = pair()
    populations, control, target, rate = inputs(program, 3, torch.float64, 3)
    steppers = [s(program, 0.7, 1, CPU, torch.float64) for s in STEPPERS]
    found, expected = (stepper(populations, control, target, rate)[0] for stepper in steppers)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)
    shared = steppers[0](populations, control, target, rate[:1])[0]
    assert torch.equal(shared[0], found[0]) and (shared - found)[1:].abs().amax() > 1e-5


def test_is_bitwise_invariant() -> None:
    """An environment alone, among others, and beside one whose numbers are lost."""
    program = pair()
    populations, control, target, rate = inputs(program, 4, torch.float32, 4)
    stepper = LatticeTritonStepper(program, 0.7, 2, CPU, torch.float32)
    everybody = stepper(populations, control, target, rate)
    assert len(everybody[2].unique(dim=0)) == 4  # no two environments are alike
    lost = populations.clone()
    lost[2, 3, 5, 14] = math.nan  # downstream of the bodies
    beside = stepper(lost, control, target, rate)
    assert beside[0][2].isnan().any()
    for rows in ([0], [3, 1]):
        some = stepper(populations[rows], control[rows], target[rows], rate[rows])
        for part, whole, other in zip(some, everybody, beside, strict=True):
            assert torch.equal(part, whole[rows]) and torch.equal(part, other[rows])


def test_what_lies_in_bodies_is_not_read() -> None:
    program = pair()
    assert len(program.solid) > 0
    populations, *others = inputs(program, 1, torch.float64, 1)
    stepper = LatticeTritonStepper(program, 0.7, 3, CPU, torch.float64)
    filled = populations.flatten(2).index_fill(2, torch.from_numpy(program.solid), math.nan)
    found = stepper(filled.view_as(populations), *others)
    for one, other in zip(found, stepper(populations, *others), strict=True):
        assert torch.equal(one, other)


def test_gradients_are_those_of_the_reference() -> None:
    program = pair()
    arguments = [tensor.requires_grad_() for tensor in inputs(program, 2, torch.float64, 2)]
    results = [stepper(program, 0.7, 2, CPU, torch.float64)(*arguments) for stepper in STEPPERS]
    seeds = [torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view_as(x) for x in results[0]]
    found, expected = (torch.autograd.grad(result, arguments, seeds) for result in results)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other) and other.abs().max() > 0


def test_empty_batch() -> None:
    program = pair()
    stepper = LatticeTritonStepper(program, 0.7, 2, CPU, torch.float32)
    found = stepper(*inputs(program, 0, torch.float32, 1))
    assert [len(tensor) for tensor in found] == [0, 0, 0]


def test_wrong_inputs_are_refused() -> None:
    """A kernel would read beyond their end."""
    program = pair()
    stepper = LatticeTritonStepper(program, 0.7, 2, CPU, torch.float32)
    populations, control, target, rate = inputs(program, 3, torch.float32, 3)
    with pytest.raises(
        ValueError, match=r"rate: got torch.float32 on cpu of shape \(2,\); allowed"
    ):
        stepper(populations, control, target, rate[:2])
    with pytest.raises(ValueError, match=r"control: got .* allowed: .* of shape \(3, 2\)"):
        stepper(populations, control[:2], target, rate)
    with pytest.raises(ValueError, match=r"populations: got torch\.float64 on cpu"):
        stepper(populations.double(), control, target, rate)
