"""Separatrix: a Gymnasium suite of dynamics that fight back.

Importing this package registers every environment with Gymnasium under the namespace
`separatrix/`. It loads neither torch nor numba nor sympy: those load when an environment is made.
"""

__version__ = "0.1.0"

import separatrix.envs.chaotic
import separatrix.envs.fluid
import separatrix.envs.language
import separatrix.envs.mechanics
import separatrix.envs.streams
import separatrix.envs.twin  # noqa: F401  (all are imported to register their environments)
