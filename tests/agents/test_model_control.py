"""LQR and MPC on models: against those of the true systems, and what is refused."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.agents.common.collector import Collector
from separatrix.agents.common.projections import unit_circle
from separatrix.agents.common.replay import ReplayBuffer
from separatrix.agents.experiment import EnvironmentConfig, ExperimentConfig
from separatrix.agents.sindy_rl.config import (
    CollectionConfig,
    NeuralModelConfig,
    SindyRLConfig,
    SparseModelConfig,
)
from separatrix.agents.sindy_rl.forecast import Dynamics, Forecast
from separatrix.agents.sindy_rl.loop import Loop
from separatrix.agents.sindy_rl.model_control import LinearFeedback, linear_model, model_lqr
from separatrix.agents.sindy_rl.neural_dynamics import fit_neural_dynamics
from separatrix.agents.sindy_rl.sparse_dynamics import fit_sparse_dynamics
from separatrix.agents.sindy_rl.surrogate import Starts, SurrogateEnvironment
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqr import LQR, design
from separatrix.controllers.open_loop import RandomController, ZeroController
from separatrix.controllers.planning.icem import ICEM
from separatrix.controllers.rollout import rollout
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.registration import make_environment


class Linear(Dynamics):
    """x_{k+1} = A x_k + B u_k."""

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = (torch.tensor(matrix, dtype=torch.float64) for matrix in (a, b))

    def forecast(self, observation: Tensor, action: Tensor) -> Forecast:
        following = observation @ self.a.T.to(observation) + action @ self.b.T.to(observation)
        zero = torch.zeros_like(following[:, 0])
        return Forecast(following, None, zero, zero)


def surrogate(
    dynamics: Dynamics, id: str = "Lorenz-v0", dtype: str = "float32"
) -> SurrogateEnvironment:
    like = make_environment(id, dtype=dtype)
    _, observation = like.reset(0)
    return SurrogateEnvironment(dynamics, like, Starts(observation, observation, 0.5))


def collected(id: str, steps: int, hold: int) -> ReplayBuffer:
    environment = make_environment(id, 2)
    size = environment.observation_space.shape[0]
    buffer = ReplayBuffer(size, 1, capacity=2 * steps, num_envs=2)
    Collector(environment, buffer, 5).collect(RandomController(environment, 0, hold), steps)
    return buffer


def fitted(id: str, config: SparseModelConfig, steps: int, hold: int = 5) -> SurrogateEnvironment:
    """A surrogate fitted to random actions in two environments; pairs of a circle are named."""
    like, data = make_environment(id), collected(id, steps, hold).ordered()
    circles = ((0, 1),) if "cosine" in config.names else ()
    dynamics, _ = fit_sparse_dynamics(
        data[torch.ones_like(data.last)],
        config,
        interval=like.control_interval,
        project=unit_circle(*circles),
        circles=circles,
    )
    starts = data.observation.flatten(0, 1)
    return SurrogateEnvironment(dynamics, like, Starts(starts[:1], starts, 0.0), num_envs=2)


VAN_DER_POL = SparseModelConfig(degree=3, influence_degree=0, target="derivative")


def test_on_a_linear_model_it_is_the_lqr() -> None:
    a = np.array([[1.1, 0.2, 0.0], [0.0, 0.9, 0.3], [-0.1, 0.0, 1.05]])
    b = np.array([[0.0], [0.2], [1.0]])
    target = torch.tensor([0.5, -1.0, 0.25])
    # The target is no rest point of this model: the drift there is left out.
    found = model_lqr(surrogate(Linear(a, b), dtype="float64"), target, control_weight=0.5)
    expected, _ = design(a, b, np.eye(3), 0.5)
    np.testing.assert_allclose(found.gain.numpy(), expected, rtol=1e-12)
    deviation = torch.tensor([[0.02, 0.03, -0.01], [5.0, 5.0, 5.0], [0.0, 0.0, 0.0]])
    action = found.act(target + deviation, None)
    assert action.dtype == torch.float32
    law = -float(deviation[0].double() @ found.gain[0])
    assert abs(law) < 1 and action[0].item() == pytest.approx(law, rel=1e-5)
    assert action[1:, 0].tolist() == [-1.0, 0.0]


def test_on_a_sparse_model_of_van_der_pol_it_is_nearly_the_true_lqr() -> None:
    environment = make_environment("VanDerPol-v0")
    true = LQR(environment).gain[0]
    scale = 1 / linearize(environment).c[0].diag()
    found = model_lqr(fitted("VanDerPol-v0", VAN_DER_POL, 100), torch.zeros(2))
    # 0.7 % here, what the trapezoidal fit with this interval misses.
    torch.testing.assert_close(found.gain, true * scale, rtol=0.02, atol=0.0)


def test_on_a_circle_the_radius_decays_and_the_rest_is_the_true_lqr() -> None:
    config = SparseModelConfig(
        names=("cosine", "sine", "velocity"), degree=3, influence_degree=2, target="change"
    )
    model = fitted("DampedPendulum-v0", config, 1000)
    upright = torch.tensor([1.0, 0.0, 0.0])
    a, _ = linear_model(model, upright, torch.zeros(1))
    assert np.abs(a[0]).max() < 1e-5  # the cosine after a step does not tell any deviation
    true = LQR(make_environment("DampedPendulum-v0")).gain[0, 0]
    found = model_lqr(model, upright).gain[0]
    torch.testing.assert_close(found[1:], true * torch.tensor([1.0, 8.0]), rtol=0.05, atol=0.0)


def test_it_holds_the_lorenz_system_after_200_random_steps() -> None:
    config = SparseModelConfig(degree=3, influence_degree=1)
    law = model_lqr(fitted("Lorenz-v0", config, 100, hold=2), torch.zeros(3))
    environment = make_environment("Lorenz-v0", 16)
    states = [step.transition for step in rollout(environment, law, torch.arange(16))]
    assert states[-1].info["on_target"].all() and len(states) == 400
    true = evaluate(environment, LQR(environment), torch.arange(16)).returns.mean()
    returns = torch.stack([transition.reward for transition in states]).sum(0)
    assert returns.mean().item() == pytest.approx(true.item(), rel=0.02)


def test_a_model_of_networks_is_linearized_too() -> None:
    data = collected("VanDerPol-v0", 100, 5).ordered()
    dynamics = fit_neural_dynamics(
        data,
        NeuralModelConfig(members=2, hidden=(8,), max_epochs=2),
        project=unit_circle(),
        seed=0,
    )
    model = surrogate(dynamics, "VanDerPol-v0")
    a, b = linear_model(model, torch.zeros(2), torch.zeros(1))
    for column, moved in enumerate((torch.tensor([1e-2, 0.0]), torch.tensor([0.0, 1e-2]))):
        ahead = dynamics.forecast(moved[None], torch.zeros((1, 1))).next_observation
        behind = dynamics.forecast(-moved[None], torch.zeros((1, 1))).next_observation
        slope = (ahead - behind)[0] / 2e-2
        np.testing.assert_allclose(a[:, column], slope.numpy(), atol=2e-4)
    assert b.shape == (2, 1)


def test_a_planner_plans_in_a_sparse_model() -> None:
    config = SparseModelConfig(degree=3, influence_degree=0)
    model = fitted("VanDerPol-v0", config, 100)
    environment = make_environment("VanDerPol-v0", 2)
    rewards = []
    planner = ICEM(model, horizon=12, population=16, elites=4, iterations=2)
    for controller in (planner, ZeroController(environment)):
        steps = islice(rollout(environment, controller, torch.arange(2)), 30)
        rewards.append(torch.stack([step.transition.reward for step in steps]).sum(0))
    assert (rewards[0] > 2 * rewards[1]).all()


@pytest.mark.parametrize(
    "a",
    [
        np.diag([1.2, 0.5, 0.5]),  # a mode that grows and that no action reaches
        [[0.5, 0, 0], [0, math.cos(0.1), -math.sin(0.1)], [0, math.sin(0.1), math.cos(0.1)]],
    ],
    ids=["growing", "phase"],
)
def test_what_no_action_stabilizes_is_refused(a: Any) -> None:
    model = surrogate(Linear(a, [[0.0], [0.0], [0.0]]))
    with pytest.raises(ValueError, match=r"no linear law stabilizes .* plan instead: ICEM"):
        model_lqr(model, torch.zeros(3))


def test_what_makes_no_sense_is_refused() -> None:
    model = surrogate(Linear(0.5 * np.eye(3), [[0.0], [0.0], [1.0]]))
    assert isinstance(model_lqr(model, torch.zeros(3)), LinearFeedback)
    for wrong in (torch.zeros(2), torch.full((3,), torch.nan)):
        with pytest.raises(ValueError, match=r"observation: got .*; allowed: 3"):
            model_lqr(model, wrong)
    with pytest.raises(ValueError, match="control_weight: got 0"):
        model_lqr(model, torch.zeros(3), control_weight=0.0)
    broken = surrogate(Linear(np.full((3, 3), np.inf), [[0.0], [0.0], [1.0]]))
    with pytest.raises(ValueError, match="no finite derivatives"):
        model_lqr(broken, torch.zeros(3))


def test_what_diverged_does_not_spoil_the_model_of_a_run() -> None:
    agent = SindyRLConfig(
        model=SparseModelConfig(degree=2, influence_degree=2, threshold=1e-3, members=3),
        collection=CollectionConfig(initial_steps=200, initial_hold=1),
    )
    environment = EnvironmentConfig("separatrix/Henon-v0", options={"authority": 0.1})
    loop = Loop(ExperimentConfig(environment, agent, total_steps=300))
    loop.begin()
    data = loop.data()
    assert data.terminated.sum() == 1  # it is held where it was: no step of the map
    loop.modelling.fit(data, 0)
    found = model_lqr(loop.modelling.surrogate, torch.zeros(2))
    # In observations, the true gain times the standard deviations.
    expected = LQR(loop.environment).gain[0] / linearize(loop.environment).c[0].diag()
    torch.testing.assert_close(found.gain, expected, rtol=1e-3, atol=0.0)
