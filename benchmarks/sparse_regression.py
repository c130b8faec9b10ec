"""Times fits and predictions of sparse models beside PySINDy, on cart-pole swing-up.

The data are transitions of CartPoleSwingUp-v0 under random motor signals: five states (position,
cosine and sine of the angle, two velocities) and a control in, the next five states out. The
library is the 41 terms of p(x) + q(x) u with quadratic p and q, threshold and ridge are those of
SINDy-RL (Zolman et al. 2024): 7e-3 and 5e-5, 20 members, rows drawn with replacement, one feature
dropped.

    refit       from the features' values to the coefficients of all members
                ours: `fit_ensemble(STLSQ(...))`; theirs: `EnsembleOptimizer(STLSQ(...))`
    predict     the next states of 1 and of 4096 rows, from states and controls
                ours: `SparseModel.predict`, of the median and of all 20 members, and the exported
                NumPy function; theirs: `DiscreteSINDy.predict`

Before timing, both fit the same rows and columns: the members of one must be those of the other.
The ways take turns in every round. BLAS and torch get the same number of threads; with more than
one, on a machine that does other work, they wait for each other, and the figures say little.

    python benchmarks/sparse_regression.py --threads 1 --output docs/results/sparse_regression.json
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pysindy
import torch
from harness import Run, measure, origin, save, use_threads
from threadpoolctl import threadpool_limits
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.sparse.ensemble import fit_ensemble
from separatrix.agents.common.sparse.libraries import PolynomialLibrary, control_affine_library
from separatrix.agents.common.sparse.model import SparseModel
from separatrix.agents.common.sparse.stlsq import STLSQ
from separatrix.envs.core.registration import make_environment

ROWS, MEMBERS, BATCHES = 16000, 20, (1, 4096)
THRESHOLD, ALPHA = 7e-3, 5e-5
STATES = ("position", "cosine", "sine", "velocity", "turning")
LIBRARY = control_affine_library(
    PolynomialLibrary(2, STATES, bias=False), PolynomialLibrary(2, STATES), ("motor",)
)


def transitions(rows: int) -> tuple[Tensor, Tensor]:
    """Inputs (rows, 6) and next states (rows, 5) of 16 cart-poles, with a signal held for 0.1 s."""
    count = 16
    environment = make_environment("CartPoleSwingUp-v0", count, dtype="float64")
    state, _ = environment.reset(0)
    generator = torch.Generator().manual_seed(0)
    inputs, targets = [], []

    def observed(values: Tensor) -> Tensor:
        position, angle, velocity, turning = values.T
        return torch.stack([position, angle.cos(), angle.sin(), velocity, turning], 1)

    for step in range(rows // count):
        if step % 10 == 0:
            action = 2 * torch.rand((count, 1), generator=generator, dtype=torch.float64) - 1
        before = observed(state.values)
        state = environment.step(state, action).state
        inputs.append(torch.cat([before, action], 1))
        targets.append(observed(state.values))
    return torch.cat(inputs), torch.cat(targets)


def their_ensemble(unbias: bool) -> Any:
    """A fresh EnsembleOptimizer: a used one keeps members of earlier fits."""
    inner = pysindy.STLSQ(threshold=THRESHOLD, alpha=ALPHA, unbias=unbias)
    return pysindy.EnsembleOptimizer(
        inner, bagging=True, library_ensemble=True, n_models=MEMBERS, n_candidates_to_drop=1
    )


def agreement(theta: Tensor, targets: Tensor, unbias: bool) -> dict[str, Any]:
    """Fits the rows and columns that PySINDy draws by both and compares the members."""
    rows, features = theta.shape
    theirs = their_ensemble(unbias)
    np.random.seed(0)
    theirs.fit(theta.numpy(), targets.numpy())
    np.random.seed(0)
    weights = torch.zeros((MEMBERS, rows), dtype=torch.float64)
    columns = torch.zeros((MEMBERS, features), dtype=torch.bool)
    for member in range(MEMBERS):
        drawn = np.random.choice(range(rows), rows, replace=True)
        weights[member] = torch.from_numpy(np.bincount(drawn, minlength=rows)).double()
        columns[member, np.random.choice(range(features), features - 1, replace=False)] = True
    ours = STLSQ(THRESHOLD, ALPHA, unbias=unbias).fit(theta, targets, weights, columns)
    found, expected = ours.coefficients.numpy(), np.array(theirs.coef_list)
    return {
        "unbias": unbias,
        "coefficients": found.size,
        "different_support": int(((found != 0) != (expected != 0)).sum()),
        "largest_difference": float(np.abs(found - expected).max()),
        "largest_coefficient": float(np.abs(expected).max()),
    }


def their_model(inputs: np.ndarray, targets: np.ndarray) -> Any:
    """DiscreteSINDy with the same library, fitted by STLSQ."""
    library = pysindy.GeneralizedLibrary(
        [
            pysindy.PolynomialLibrary(2, include_bias=False),
            pysindy.PolynomialLibrary(1, include_bias=False),
        ],
        tensor_array=[[1, 1]],
        inputs_per_library=[[0, 1, 2, 3, 4], [5]],
    )
    optimizer = pysindy.STLSQ(threshold=THRESHOLD, alpha=ALPHA, unbias=False)
    model = pysindy.DiscreteSINDy(optimizer=optimizer, feature_library=library)
    return model.fit(inputs[:, :5], t=1, x_next=targets, u=inputs[:, 5:])


def predictors(inputs: Tensor, targets: Tensor, count: int) -> tuple[dict[str, Run], float]:
    """Ways to predict a batch, and the largest difference between theirs and ours."""
    theta = LIBRARY(inputs)
    optimizer = STLSQ(THRESHOLD, ALPHA, unbias=False)
    ensemble = fit_ensemble(optimizer, theta, targets, members=MEMBERS).coefficients
    names = tuple(f"next_{name}" for name in STATES)
    model = SparseModel(LIBRARY, ensemble, names, ("motor",))
    one = SparseModel(LIBRARY, optimizer.fit(theta, targets).coefficients[None], names, ("motor",))
    theirs = their_model(inputs.numpy(), targets.numpy())
    batch = inputs[:count]
    single, small = batch.float(), model.to("cpu", torch.float32)
    state, control = batch[:, :5].numpy().copy(), batch[:, 5:].numpy().copy()
    namespace: dict[str, Any] = {}
    exec(compile(model.to_numpy_source(), "<model>", "exec"), namespace)
    expected = np.asarray(theirs.predict(state, u=control))
    difference = float(np.abs(one.predict(batch).numpy() - expected).max())
    return {
        "ours": lambda: model.predict(batch),
        "ours, float32": lambda: small.predict(single),
        "ours, all members": lambda: model.predict_members(batch),
        "ours, exported to NumPy": lambda: namespace["step"](state, control),
        "PySINDy": lambda: theirs.predict(state, u=control),
    }, difference


def rows_of(task: str, threads: int, found: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Prints the times of a task and returns them as rows."""
    rows = []
    for name, times in found.items():
        ratio = found["PySINDy"]["median"] / times["median"]
        row = {"task": task, "threads": threads, "way": name, **times, "pysindy_over_this": ratio}
        rows.append(row)
        print(
            f"{task:12s} {threads:7d}   {name:26s} {1e3 * times['minimum']:10.3f} "
            f"{1e3 * times['median']:10.3f} {ratio:16.1f}"
        )
    return rows


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="one or more counts")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    arguments = parser.parse_args()
    found = origin(["pysindy", "scikit-learn"])
    print(json.dumps(found, indent=1))
    inputs, targets = transitions(ROWS)
    theta = LIBRARY(inputs)
    agreements = [agreement(theta, targets, unbias) for unbias in (False, True)]
    print(f"\n{ROWS} rows, {theta.shape[1]} features, 5 targets, {MEMBERS} members; same draws:")
    for row in agreements:
        print(row)
    runs, differences = {}, {}
    for count in BATCHES:
        runs[count], differences[count] = predictors(inputs, targets, count)
    print(f"largest differences of predicted states, by rows: {differences}")
    print(
        "\ntask         threads   way                        fastest ms  median ms   PySINDy / this"
    )
    rows = []
    for threads in arguments.threads:
        use_threads(threads)
        with threadpool_limits(threads), torch.no_grad():
            fits: dict[str, Run] = {
                "ours": lambda: fit_ensemble(
                    STLSQ(THRESHOLD, ALPHA, unbias=False), theta, targets, members=MEMBERS
                ),
                "PySINDy": lambda: their_ensemble(False).fit(theta.numpy(), targets.numpy()),
            }
            rows += rows_of("refit", threads, measure(fits, arguments.rounds, 0.5))
            for count, ways in runs.items():
                times = measure(ways, 3 * arguments.rounds, 0.05)
                rows += rows_of(f"predict {count}", threads, times)
    del found["threads"]  # every row has its own
    content = {**found, "load_average_after": os.getloadavg(), "agreement": agreements}
    save(arguments.output, {**content, "largest_prediction_difference": differences, "times": rows})


if __name__ == "__main__":
    main()
