"""The patient of simglucose, for the benchmark and the tests beside it.

Only `simglucose.patient.t1dpatient` is imported. The package's own first file needs gym, the
predecessor of Gymnasium, and the patient's asks `pkg_resources`, which setuptools no longer has,
for the path of a file: both get a stand-in while the patient is imported.
"""

from __future__ import annotations

import sys
import types
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

INSTALL = "pip install --no-deps simglucose==0.2.11; pip install pandas"


def load_patient() -> Any:
    """Returns the module of simglucose that holds `T1DPatient` and `Action`.

    Raises:
        ImportError: simglucose or pandas is not installed.
    """
    spec = find_spec("simglucose")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"simglucose is not installed: {INSTALL}")
    folder = Path(spec.submodule_search_locations[0])
    package, resources = types.ModuleType("simglucose"), types.ModuleType("pkg_resources")
    package.__path__ = [str(folder)]
    vars(resources)["resource_filename"] = lambda name, path: str(folder / path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for needed in ("pandas", "scipy.integrate"):  # for good, before modules are set aside
            import_module(needed)
        with patch.dict(sys.modules, {"simglucose": package, "pkg_resources": resources}):
            return import_module("simglucose.patient.t1dpatient")
