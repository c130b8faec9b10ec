"""PDEs for tests, and their systems."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.spectral import SpectralDefinition, laplacian
from separatrix.envs.steppers.spectral_system import SpectralSystem

BURGERS = SpectralDefinition(
    name="Burgers",
    fields=("u",),
    dimensions=1,
    parameters={"length": 2 * math.pi, "viscosity": 0.1},
    linear=lambda d, p: [[p["viscosity"] * d[0] ** 2]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u,),
    outputs=lambda d, p: [[-d[0] / 2]],
    degree=2,
    bound=(100.0,),
)
SOLITON = SpectralDefinition(  # of complex multipliers
    name="KortewegDeVries",
    fields=("u",),
    dimensions=1,
    parameters={"length": 2 * math.pi},
    linear=lambda d, p: [[-0.02 * d[0] ** 3]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u,),
    outputs=lambda d, p: [[-d[0] / 2]],
    degree=2,
    bound=(100.0,),
)
KLEIN_GORDON = SpectralDefinition(  # of coupled fields, whose L is defective for the mean
    name="KleinGordon",
    fields=("u", "v"),
    dimensions=1,
    parameters={"length": 2 * math.pi},
    linear=lambda d, p: [[0, 1], [d[0] ** 2, -0.1]],
    inputs=lambda d, p: [[1, 0], [0, 1]],
    product=lambda u, v: (u**3 + u * v * v,),
    outputs=lambda d, p: [[0], [-1]],
    degree=3,
    bound=(100.0, 100.0),
)
HEAT = SpectralDefinition(
    name="Heat",
    fields=("u",),
    dimensions=1,
    parameters={"length": 3.0},
    linear=lambda d, p: [[laplacian(d)]],
    inputs=lambda d, p: [],
    product=lambda: (),
    outputs=lambda d, p: [[]],
    degree=1,
    bound=(100.0,),
    forcing=lambda x, p: [torch.cos(2 * math.pi * x[0] / p["length"]) + 0.5],
)
PLANE = SpectralDefinition(
    name="Plane",
    fields=("u",),
    dimensions=2,
    parameters={"length": 2 * math.pi},
    linear=lambda d, p: [[0.05 * laplacian(d)]],
    inputs=lambda d, p: [[d[0]], [d[1]], [1]],
    product=lambda a, b, u: (a * b, u * u),
    outputs=lambda d, p: [[0.3, -d[1] / 2]],
    degree=2,
    bound=(100.0,),
)


def smooth(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """The same smooth field in every environment."""
    return smooth_field(system).expand(
        len(stream.seed), *[-1] * (1 + system.grid.dimensions)
    ), stream


def smooth_field(system: SpectralSystem) -> Tensor:
    """Sines and cosines, another in each field, (1, field, *grid)."""
    positions = system.grid.positions(torch.ones(1, dtype=torch.float64))
    x = sum(position * (i + 1) for i, position in enumerate(positions)) * 2 * math.pi
    x = torch.as_tensor(x).expand(system.grid.shape)
    fields = [(x + i).sin() + 0.5 * (2 * x + 1).cos() for i in range(len(system.definition.fields))]
    return torch.stack(fields)[None]


def system_of(
    definition: SpectralDefinition, points: int = 32, num_envs: int = 1, **options: Any
) -> SpectralSystem:
    """A system with two controls on the first field."""
    parameters = {name: options.pop(name) for name in definition.parameters if name in options}
    axes = [torch.arange(points) * (2 * math.pi / points)] * definition.dimensions
    x = torch.stack(torch.meshgrid(*axes, indexing="ij")).sum(0).double()
    actuators = torch.zeros((2, len(definition.fields), *x.shape), dtype=torch.float64)
    actuators[0, 0], actuators[1, 0] = x.cos(), (2 * x).sin()
    settings = {"control_interval": 0.1, "substeps": 2, "backend": "torch", "dtype": torch.float64}
    settings["device"] = torch.device("cpu")
    chosen: Any = settings | options
    return SpectralSystem(
        definition, parameters, smooth, actuators, points=points, num_envs=num_envs, **chosen
    )
