"""PDEs and flows: fields, and the tasks on them. Importing the package registers them."""

from separatrix.envs.fluid import (
    allen_cahn,
    burgers,
    cahn_hilliard,
    convection_diffusion_reaction,
    cylinder,
    fisher,
    ginzburg_landau,
    gray_scott,
    kolmogorov_flow,
    korteweg_de_vries,
    kuramoto_sivashinsky,
    pinball,
    scalar_mixing,
    schrodinger,
    wave,
)

__all__ = [
    "allen_cahn",
    "burgers",
    "cahn_hilliard",
    "convection_diffusion_reaction",
    "cylinder",
    "fisher",
    "ginzburg_landau",
    "gray_scott",
    "kolmogorov_flow",
    "korteweg_de_vries",
    "kuramoto_sivashinsky",
    "pinball",
    "scalar_mixing",
    "schrodinger",
    "wave",
]
