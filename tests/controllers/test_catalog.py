"""Controllers by name."""

from __future__ import annotations

import inspect

import pytest
import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers.catalog import CONTROLLERS, make_controller
from separatrix.envs.core.registration import make_environment

SETTINGS: dict[str, dict[str, float]] = {
    "lqg": {"process_noise": 1e-3, "measurement_noise": 1e-2},
    "h2": {"process_noise": 1e-3, "measurement_noise": 1e-2},
    "hinfinity": {"process_noise": 1e-3, "measurement_noise": 1e-2},
    "delayed_feedback": {"period": 0.5, "gain": 0.1},
    "gradient_mpc": {"horizon": 3},
}
ENVIRONMENTS = {
    "ogy": "Henon-v0",
    "proportional": "KuramotoSivashinsky-v0",
    "lift_feedback": "RotaryCylinder-v0",
    "basal_bolus": "Glucose-v0",
    "glucose_pid": "Glucose-v0",
    "thermostat": "Refrigerator-v0",
    "greedy_prompt": "PromptDialogue-v0",
}


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_name_makes_a_controller_that_acts(name: str) -> None:
    if name in ("h2", "hinfinity"):
        pytest.importorskip("slycot")
    environment = make_environment(ENVIRONMENTS.get(name, "Lorenz-v0"), 3)
    controller = make_controller(name, environment, seed=1, **SETTINGS.get(name, {}))
    with torch.no_grad():
        state, observation = environment.reset(0)
        controller.reset(torch.ones(3, dtype=torch.bool))
        action = controller.act(observation, state)
    assert action.shape == (3, *environment.action_shape)
    assert all(environment.action_space.contains(row.numpy()) for row in action)


def test_every_class_documents_its_settings() -> None:
    from importlib import import_module

    for path in CONTROLLERS.values():
        module, _, attribute = path.partition(":")
        kind = getattr(import_module(module), attribute)
        text = f"{kind.__doc__} {kind.__init__.__doc__}"
        for parameter in list(inspect.signature(kind).parameters):
            assert f"{parameter}:" in text or parameter == "environment", (attribute, parameter)


def test_mistakes_say_what_is_allowed() -> None:
    environment = make_environment("Lorenz-v0", 2)
    with pytest.raises(ValueError, match="unknown controller 'icme'; did you mean 'icem'"):
        make_controller("icme", environment)
    with pytest.raises(ValueError, match="did you mean 'population'"):
        make_controller("icem", environment, populations=3)
    with pytest.raises(ValueError, match="delayed_feedback needs the settings period, gain"):
        make_controller("delayed_feedback", environment)
