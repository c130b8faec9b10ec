"""Distillation: recovery, clipped regression, the student's states, selection, export."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.projections import unit_circle
from separatrix.agents.common.sparse.libraries import (
    CustomLibrary,
    FourierLibrary,
    PolynomialLibrary,
)
from separatrix.agents.common.sparse.library import Library
from separatrix.agents.common.sparse.model import SparseModel
from separatrix.agents.sindy_rl.distillation import (
    Candidate,
    distill,
    first_to_hold,
    select,
)
from separatrix.agents.sindy_rl.distillation_config import DistillationConfig
from separatrix.agents.sindy_rl.distillation_fit import Columns, elimination_path
from separatrix.agents.sindy_rl.distillation_refine import tune, without_one
from separatrix.agents.sindy_rl.distillation_samples import Mixture, Samples
from separatrix.agents.sindy_rl.sparse_policy import Policies, SparsePolicy, returns_of
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqr import LQR
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment
from separatrix.envs.steppers import functions as f

NAMES = ("c", "s", "w")
QUICK = DistillationConfig(
    names=NAMES,
    degrees=(2,),
    ridges=(1e-9,),
    rounds=2,
    episodes=8,
    samples=400,
    judge_episodes=4,
    members=3,
    refine=False,
    refine_iterations=2,
    refine_population=8,
    refine_episodes=2,
)


class Law(Controller):
    """A teacher written as a function of the observation."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def act(self, observation: Tensor, state: Any) -> Tensor:
        return self.function(observation)[:, None].clamp(-1.0, 1.0)


def pendulum(horizon: int = 60, **options: Any) -> Environment:
    """The pendulum; it observes cosine and sine of its angle, and its velocity over 8 rad/s."""
    return make_environment("DampedPendulum-v0", 4, horizon=horizon, **options)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quick(teacher: Controller, environment: Environment | None = None, **changes: Any) -> Any:
    environment = pendulum() if environment is None else environment
    config = dataclasses.replace(QUICK, **changes)
    return distill(teacher, environment, environment, config, project=unit_circle((0, 1)))


def terms(policy: SparsePolicy) -> dict[str, float]:
    """Coefficients of the first action by the name of the term."""
    names, row = policy.model.library.feature_names, policy.model.coefficients[0].tolist()
    return {name: value for name, value in zip(names, row, strict=True) if value}


def pump(observation: Tensor) -> Tensor:
    """Swings with the motion, and saturates in most of it."""
    c, s, w = observation.T
    return 8.0 * w - 3.0 * c * w + 0.5 * s


def test_a_sparse_teacher_is_recovered() -> None:
    found = quick(Law(pump))
    assert found.samples == 2 * 2 * 400
    three = [c for c in found.candidates if c.policy.num_terms == 3]
    assert len(three) == 2  # of two rounds
    for one in three:
        coefficients = {"w": 8.0, "c w": -3.0, "s": 0.5}
        assert terms(one.policy) == pytest.approx(coefficients, rel=1e-4)
        assert one.error < 1e-4
        assert one.policy.equations(1) == ("u0 = clip(0.5 s + 8 w - 3 c w, -1, 1)",)


def test_a_linear_regulator_is_recovered() -> None:
    """The regulator reads the state, which Lorenz observes but for shift and scale."""
    environment = make_environment("Lorenz-v0", 8, horizon=40, dtype="float64")
    teacher = LQR(environment)
    config = dataclasses.replace(
        QUICK, names=("x", "y", "z"), bias=True, query_noise=0.0, rounds=1, ridges=(1e-11,)
    )
    found = distill(teacher, environment, environment, config)
    (three,) = [c for c in found.candidates if c.policy.num_terms == 3]
    assert set(terms(three.policy)) == {"x", "y", "z"}
    assert found.student_return == pytest.approx(found.teacher_return, rel=0.02)
    state, observation = environment.reset(torch.arange(500))
    expected = teacher.act(observation, state)
    assert (expected.abs() < 1).any()
    torch.testing.assert_close(three.policy.act(observation, None), expected, atol=1e-5, rtol=0)


def test_clipped_regression_finds_the_switching_surface() -> None:
    inputs, library = draw(4000, 2), PolynomialLibrary(3, ("x", "y"))
    surface = inputs[:, 0] + 2 * inputs[:, 1] - inputs[:, 0] ** 3
    label = (50 * surface).clamp(-1, 1)[:, None]
    columns = Columns.of(library(inputs))
    wrong = []
    for saturation in (0.99, 2.0):  # above 1 no label counts as clipped: plain least squares
        path = elimination_path(columns.values, label, ridge=1e-6, saturation=saturation)
        three = path[len(path) - 3, 0] / columns.scale
        if saturation < 1:
            names = {library.feature_names[j] for j in columns.kept[three != 0].tolist()}
            assert names == {"x", "y", "x^3"}
        unseen = draw(4000, 2, seed=1)
        found = library(unseen)[:, columns.kept] @ three
        truth = unseen[:, 0] + 2 * unseen[:, 1] - unseen[:, 0] ** 3
        wrong.append(((found * truth) < 0).double().mean().item())
    clipped, plain = wrong
    assert clipped < 0.01
    assert plain > 5 * clipped


def test_clipped_regression_minimizes_its_loss() -> None:
    values = draw(300, 4)
    label = (values[:, :1] - values[:, 1:2] + draw(300, 1, seed=1)).clamp(-1, 1)
    found = elimination_path(values, label, ridge=1e-9, saturation=0.99)[0, 0].requires_grad_()
    prediction = values @ found
    error = prediction - label[:, 0]
    beyond = (label[:, 0].abs() >= 0.99) & (error * label[:, 0] > 0)
    assert 0 < beyond.sum() < (label.abs() >= 0.99).sum()
    loss = torch.where(beyond, 0.0, error.square()).mean()
    (gradient,) = torch.autograd.grad(loss, found)
    assert gradient.abs().max() < 1e-5


def test_the_path_goes_down_one_term_a_step() -> None:
    values = draw(200, 5)
    labels = torch.stack([0.5 * values[:, 0] - 0.2 * values[:, 3], 0.05 * values[:, 1]], 1)
    path = elimination_path(values, labels, ridge=1e-9, saturation=2.0)
    assert (path != 0).sum((1, 2)).tolist() == list(range(10, 0, -1))
    three, two = path[-3], path[-2]
    expected = torch.zeros(2, 5, dtype=torch.float64)
    expected[0, 0], expected[0, 3], expected[1, 1] = 0.5, -0.2, 0.05
    torch.testing.assert_close(three, expected, atol=1e-6, rtol=0)
    assert two[1].eq(0).all()  # the weakest term of all actions goes first


def test_correlated_features_do_not_mislead_the_path() -> None:
    base = draw(500, 3)
    values = torch.stack([base[:, 0], base[:, 0] + 0.05 * base[:, 1], base[:, 2]], 1)
    label = (0.02 * values[:, 2] + 0.3 * values[:, 0])[:, None]
    path = elimination_path(values, label, ridge=1e-9, saturation=2.0)
    assert path[1, 0].tolist() == pytest.approx([0.3, 0.0, 0.02], abs=1e-6)


def test_dependent_features_are_left_out() -> None:
    angle = draw(300)
    inputs = torch.stack([angle.cos(), angle.sin()], 1)
    library = PolynomialLibrary(3, ("c", "s"))
    columns = Columns.of(library(inputs))
    left = [library.feature_names[j] for j in columns.kept.tolist()]
    assert left == ["1", "c", "s", "c^2", "c s", "c^3", "c^2 s"]
    assert columns.condition < 100
    torch.testing.assert_close(columns.values.square().mean(0), torch.ones(7).double())
    spread = columns.spread(torch.ones(7).double(), 10)
    theta = library(inputs)
    torch.testing.assert_close(theta @ spread, columns.values.sum(1))


def test_the_student_is_labelled_where_it_goes() -> None:
    """A student that pushes one way hangs to that side, where the teacher at rest never is."""
    environment = pendulum()
    config = dataclasses.replace(QUICK, query_noise=0.0)
    teacher, student = Law(lambda o: 0.1 * o[:, 2]), Law(lambda o: torch.ones_like(o[:, 0]))
    generator = torch.Generator().manual_seed(0)
    samples = Samples(teacher, environment, config, None, generator)
    samples.collect(None, 1.0)
    of_teacher = samples.observations.clone()
    samples.collect(student, 0.0)
    assert torch.equal(samples.observations[:400], of_teacher)
    of_student = samples.observations[400:]
    assert of_student[:, 1].abs().max() > of_teacher[:, 1].abs().max() + 0.2
    expected = teacher.act(samples.observations, None)
    torch.testing.assert_close(samples.labels, expected, atol=1e-7, rtol=0)


def test_a_mixture_acts_by_its_share() -> None:
    one, two = Law(lambda o: torch.ones_like(o[:, 0])), Law(lambda o: torch.zeros_like(o[:, 0]))
    mixture = Mixture(one, two, 0.25, torch.Generator().manual_seed(0))
    action = mixture.act(torch.zeros(4000, 3), None)
    assert 0.22 < action.mean().item() < 0.28
    assert mixture.label.eq(1).all()


def test_disturbed_observations_are_projected_and_labelled() -> None:
    samples = Samples(
        Law(pump), pendulum(), QUICK, unit_circle((0, 1)), torch.Generator().manual_seed(0)
    )
    samples.collect(None, 1.0)
    assert len(samples.observations) == 800
    seen, disturbed = samples.observations[:400], samples.observations[400:]
    assert ((disturbed - seen).abs() > 1e-3).double().mean() > 0.5
    circle = samples.observations[:, :2].square().sum(1)
    torch.testing.assert_close(circle, torch.ones_like(circle), atol=1e-6, rtol=0)
    expected = Law(pump).act(samples.observations, None)
    torch.testing.assert_close(samples.labels, expected, atol=1e-5, rtol=0)


def candidate(num_terms: int, mean_return: float, error: float) -> Candidate:
    library = PolynomialLibrary(5, ("x",))
    coefficients = torch.zeros(1, 1, 6, dtype=torch.float64)
    coefficients[..., :num_terms] = 1.0
    policy = SparsePolicy(SparseModel(library, coefficients, ("u",)))
    return Candidate(policy, 1, 1e-6, False, error, mean_return)


def test_selection_is_by_return() -> None:
    exact, good, short = candidate(6, 50.0, 0.0), candidate(4, 100.0, 0.2), candidate(3, 98.5, 0.3)
    same, poor = candidate(3, 98.1, 0.1), candidate(1, 90.0, 0.5)
    every = [exact, good, short, same, poor]
    assert select(every, 0.02) is short
    assert select(every, 0.0) is good
    assert select(every, 0.2) is poor
    costs = [candidate(4, -10.0, 0.1), candidate(3, -10.1, 0.2), candidate(2, -11.0, 0.3)]
    assert select(costs, 0.02) is costs[1]
    with pytest.raises(ValueError, match="finite return"):
        select([candidate(3, -torch.inf, 0.1)], 0.1)


def test_many_policies_are_judged_as_each_alone() -> None:
    environment, library = pendulum(), PolynomialLibrary(2, NAMES)
    coefficients = draw(5, 1, library.num_features)
    seeds = torch.arange(6)
    together = returns_of(environment, library, coefficients, seeds)
    for one, value in zip(coefficients, together, strict=True):
        policy = SparsePolicy(SparseModel(library, one[None], ("u",)))
        alone = evaluate(environment, policy, seeds).returns.mean()
        torch.testing.assert_close(value, alone, rtol=1e-4, atol=1e-4)


def test_many_policies_of_several_actions_act_as_each_alone() -> None:
    library, observation = PolynomialLibrary(2, NAMES), draw(15, 3, seed=4)
    coefficients = draw(5, 2, library.num_features)
    together = Policies(library, coefficients).act(observation, None)
    for i, one in enumerate(coefficients):
        policy = SparsePolicy(SparseModel(library, one[None], ("u", "v")))
        rows = slice(3 * i, 3 * i + 3)
        torch.testing.assert_close(together[rows], policy.act(observation[rows], None))


def test_the_same_seed_gives_the_same_policy() -> None:
    found = [quick(Law(pump), seed=seed, rounds=1, refine=True) for seed in (1, 1, 2)]
    assert torch.equal(found[0].policy.model.members, found[1].policy.model.members)
    assert found[0].teacher_return == found[1].teacher_return != found[2].teacher_return
    assert [c.mean_return for c in found[0].candidates] == [
        c.mean_return for c in found[1].candidates
    ]


def test_tuning_raises_the_return() -> None:
    """Too weak a pump gains by stronger terms; a term that is zero stays so."""
    environment, library = pendulum(200), PolynomialLibrary(1, NAMES, bias=False)
    start = torch.tensor([[0.0, 0.0, 1.5]], dtype=torch.float64)
    config = dataclasses.replace(QUICK, refine_iterations=5, refine_population=16)
    found = tune(environment, library, start, config, torch.Generator().manual_seed(0))
    assert found[0, :2].eq(0).all()
    seeds = torch.arange(100, 116)
    before, after = returns_of(environment, library, torch.stack([start, found]), seeds)
    assert after > before


def test_leaving_out_a_term_changes_the_action_least() -> None:
    theta, coefficients = draw(100, 4), draw(2, 4, seed=1)
    coefficients[0, 2] = 0.0
    shorter = without_one(coefficients, theta.T @ theta)
    assert (shorter != 0).sum((1, 2)).eq(6).all() and len(shorter) == 7
    support = torch.tensor([1, 3])  # without the first term of the first action
    expected = torch.linalg.lstsq(theta[:, support], theta @ coefficients[0]).solution
    torch.testing.assert_close(shorter[0, 0, support], expected)
    torch.testing.assert_close(shorter[0, 1], coefficients[1])


def test_refinement_never_selects_a_worse_policy() -> None:
    plain = quick(Law(pump), degrees=(1,), tolerance=0.0)
    refined = quick(Law(pump), degrees=(1,), tolerance=0.0, refine=True)
    best = [max(c.mean_return for c in found.candidates) for found in (plain, refined)]
    assert best[1] >= best[0]
    assert any(c.refined for c in refined.candidates)
    chosen = select(refined.candidates, 0.0)
    assert chosen.policy is refined.policy


def test_conditioning_names_what_was_left_out_and_how_sure_the_rest_is() -> None:
    found = quick(Law(pump), bias=True, tolerance=1e-6)
    conditioning = found.conditioning
    assert conditioning.dropped == ("s^2",)
    assert len(conditioning.singular_values) == 9
    ratio = conditioning.singular_values[0] / conditioning.singular_values[-1]
    assert conditioning.condition == pytest.approx(ratio.item())
    assert found.policy.num_terms > 1
    always = {name: torch.ones(1).double() for name in terms(found.policy)}
    torch.testing.assert_close(conditioning.inclusion, always)


def test_a_collinear_library_warns_what_to_do() -> None:
    library = CustomLibrary(lambda c, s, w: (w, w + 1e-3 * w**3, w**5), names=NAMES)
    environment = pendulum()
    config = dataclasses.replace(QUICK, samples=2000, query_noise=0.01)
    with pytest.warns(UserWarning, match="nearly dependent.*raise query_noise"):
        distill(Law(pump), environment, environment, config, libraries=[library])


def policies() -> dict[str, SparsePolicy]:
    libraries: dict[str, Library] = {
        "polynomial": PolynomialLibrary(3, NAMES),
        "functions": CustomLibrary(lambda c, s, w: (f.tanh(8 * w), f.sign(s) * c, s), names=NAMES)
        + FourierLibrary(("w",)),
    }
    return {
        name: SparsePolicy(SparseModel(library, draw(3, 2, library.num_features), ("u", "v")))
        for name, library in libraries.items()
    }


@pytest.mark.parametrize("name", ["polynomial", "functions"])
def test_exports_act_alike(name: str, tmp_path: Path) -> None:
    policy, observation = policies()[name], draw(200, 3, seed=5)
    expected = policy.act(observation, None)
    assert 0.1 < (expected.abs() == 1).double().mean() < 0.9
    read = SparsePolicy.from_json(policy.to_json())
    assert torch.equal(read.act(observation, None), expected)
    assert read.equations() == policy.equations()
    namespace: dict[str, Any] = {}
    exec(policy.to_numpy_source(), namespace)
    found = namespace["act"](observation.numpy())
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-12)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, built = tmp_path / "policy.c", tmp_path / "policy.so"
    source.write_text(policy.to_c_source())
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, str(source), "-o", str(built), "-lm"], check=True)
    act, pointer = ctypes.CDLL(str(built)).act, ctypes.POINTER(ctypes.c_double)
    act.argtypes = [pointer, pointer]
    for row, wanted in zip(observation.numpy(), expected.numpy(), strict=True):
        values, action = np.ascontiguousarray(row), np.empty(2)
        act(values.ctypes.data_as(pointer), action.ctypes.data_as(pointer))
        np.testing.assert_allclose(action, wanted, rtol=0, atol=1e-12)


def test_a_policy_acts_row_by_row() -> None:
    policy, observation = policies()["polynomial"], draw(10, 3)
    expected = policy.act(observation, None)
    observation[3] = torch.nan
    found = policy.act(observation, None)
    assert found[3].isnan().all()
    keep = torch.arange(10) != 3
    torch.testing.assert_close(found[keep], expected[keep])


def test_bad_input_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"5 samples for 9 features.*raise samples"):
        Columns.of(PolynomialLibrary(2, NAMES, bias=False)(draw(5, 3)))
    with pytest.raises(ValueError, match="all features of the library are zero"):
        Columns.of(torch.zeros(10, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="NaN or infinite"):
        quick(Law(lambda o: o[:, 0] * torch.nan))
    with pytest.raises(ValueError, match="actions are all zero"):
        quick(Law(lambda o: 0 * o[:, 0]))
    with pytest.raises(ValueError, match=r"names: got 2; allowed: 3"):
        quick(Law(pump), names=("c", "s"))
    with pytest.raises(ValueError, match="set query_noise = 0"):
        quick(LQR(pendulum()))
    library = PolynomialLibrary(1, ("x", "u"))
    model = SparseModel(library, torch.ones(1, 1, 3), ("v",), controls=("u",))
    with pytest.raises(ValueError, match="controls"):
        SparsePolicy(model)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("degrees", ()),
        ("degrees", (0,)),
        ("ridges", (0.0,)),
        ("rounds", 0),
        ("samples", 0),
        ("saturation", 0.0),
        ("query_noise", -0.1),
        ("teacher_share", 1.5),
        ("tolerance", -0.1),
        ("members", -1),
        ("refine_population", 3),
        ("refine_deviation", 0.0),
        ("seed", -1),
    ],
)
def test_bad_settings_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        DistillationConfig(**{field: value})


def test_settings_are_plain_data() -> None:
    read = TypeAdapter(DistillationConfig).validate_python({"degrees": [3], "names": ["x", "v"]})
    assert read == DistillationConfig(degrees=(3,), names=("x", "v"))
    with pytest.raises(ValidationError, match="Unexpected keyword argument"):
        TypeAdapter(DistillationConfig).validate_python({"degree": 3})


def test_the_first_formula_that_holds_in_reality_is_taken() -> None:
    environment = make_environment("Lorenz-v0", 2, horizon=50, dtype="float64")
    law, library = LQR(environment), PolynomialLibrary(1, ("x", "y", "z"))
    _, observation = environment.reset(torch.arange(400))
    state, _ = environment.reset(torch.arange(400))
    rows = library(observation)
    found = torch.linalg.lstsq(rows, law.act(observation, state).atanh().clamp(-3, 3)).solution
    coefficients = torch.stack((torch.zeros(1, 4, dtype=torch.float64), found.T))

    def candidate(row: Tensor, promised: float) -> Candidate:
        policy = SparsePolicy(SparseModel(library, row[None], ("u",)))
        return Candidate(policy, 1, 0.0, True, 0.0, promised)

    seeds = torch.arange(8)
    true = [
        evaluate(environment, candidate(row, 0).policy, seeds).returns.mean().item()
        for row in coefficients
    ]
    boastful = candidate(coefficients[0], 1.01 * max(true) + 30.0)
    config = dataclasses.replace(QUICK, tolerance=0.2)
    generator = torch.Generator().manual_seed(0)
    chosen, steps = first_to_hold(
        [boastful, candidate(coefficients[1], boastful.mean_return)], environment, config, generator
    )
    # Neither holds: the better one in reality is taken, after an episode of each in two rows.
    assert steps == 2 * 2 * 50
    assert chosen.policy.num_terms == (0 if true[0] > true[1] else 4)
    honest = candidate(coefficients[1], true[1])
    config = dataclasses.replace(QUICK, tolerance=0.4)
    chosen, steps = first_to_hold([honest], environment, config, generator)
    assert chosen is honest and steps == 100
