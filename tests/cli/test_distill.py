"""`separatrix distill`: formula, sources and report of a run's policy."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from separatrix.agents.sindy_rl.sparse_policy import SparsePolicy
from separatrix.cli.main import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    assert run(["train", "debug/lorenz_sindy_rl", "--root", str(root)]) == 0
    (found,) = root.glob("*/*/*")
    return found


SMALL = "--rounds 1 --episodes 4 --samples 200 "
SMALL += "--degrees 1 --judge-episodes 2 --evaluation-episodes 4 "
SMALL += "--refine-iterations 1 --refine-population 4 "
SMALL += "--refine-episodes 1"


def test_a_policy_becomes_a_formula_in_three_languages(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["distill", str(folder), *SMALL.split()]) == 0
    out = capsys.readouterr().out
    policy = SparsePolicy.from_json((folder / "policy.json").read_text())
    report = json.loads((folder / "distillation.json").read_text())
    assert f"formula of {policy.num_terms} terms" in out
    assert policy.equations()[0] in out and report["equations"] == list(policy.equations())
    assert report["terms"] == policy.num_terms <= 3
    observation = np.random.default_rng(0).normal(size=(20, 3))
    module: dict[str, object] = {}
    exec((folder / "policy.py").read_text(), module)
    expected = policy.act(torch.from_numpy(observation), None).numpy()
    np.testing.assert_allclose(module["act"](observation), expected, rtol=1e-12)  # type: ignore[operator]
    assert "void act(const double *observation, double *action)" in (
        (folder / "policy.c").read_text()
    )


def test_what_cannot_be_distilled_is_told_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["distill", str(tmp_path)]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    shutil.rmtree(bare / "checkpoints")
    assert run(["distill", str(bare)]) == 2
    assert "has no checkpoint yet" in capsys.readouterr().err
    assert run(["train", "debug/lorenz_ppo", "--root", str(tmp_path / "ppo")]) == 0
    (other,) = (tmp_path / "ppo").glob("*/*/*")
    assert run(["distill", str(other)]) == 2
    assert "is a run of ppo; allowed: sindy_rl" in capsys.readouterr().err
