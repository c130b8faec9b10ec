"""Hyper-parameters are checked where they are written down."""

import dataclasses
import inspect
import subprocess
import sys
from typing import Any

import pytest
import stable_baselines3
from pydantic import TypeAdapter, ValidationError

from separatrix.agents.common.stable_baselines3.config import (
    ModelFreeConfig,
    PPOConfig,
    SACConfig,
    TD3Config,
)

# Our name of an argument, where it is not stable-baselines3's own.
NAMES = {
    "rollout_steps": "n_steps",
    "epochs": "n_epochs",
    "entropy_coefficient": "ent_coef",
    "value_coefficient": "vf_coef",
    "max_gradient_norm": "max_grad_norm",
    "train_every": "train_freq",
}
# Networks are arguments of the policy, and the noise and the log are our own.
OURS = {"algorithm", "learning_rate_schedule", "activation", "initial_log_std", "log_every"}
OURS |= {
    "observation_scale",
    "policy_layers",
    "value_layers",
    "actor_layers",
    "critic_layers",
    "exploration_noise",
}


@pytest.mark.parametrize("config", [PPOConfig(), SACConfig(), TD3Config()])
def test_defaults_are_those_of_stable_baselines3(config: ModelFreeConfig) -> None:
    algorithm = getattr(stable_baselines3, config.algorithm.upper())
    parameters = inspect.signature(algorithm.__init__).parameters
    fields = {name: value for name, value in vars(config).items() if name not in OURS}
    assert fields == {name: parameters[NAMES.get(name, name)].default for name in fields}


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (PPOConfig(), {"learning_rate": 0.0}, "got learning_rate = 0.0; allowed is above 0"),
        (PPOConfig(), {"gamma": 1.5}, "got gamma = 1.5; allowed is 0 to 1"),
        (PPOConfig(), {"batch_size": 1}, "got batch_size = 1; allowed is 2 or more"),
        (PPOConfig(), {"policy_layers": (64, 0)}, "policy_layers"),
        (PPOConfig(), {"target_kl": -0.1}, "target_kl"),
        (SACConfig(), {"observation_scale": (1.0, 0.0)}, "observation_scale"),
        (SACConfig(), {"gradient_steps": 0}, "allowed is -1, or 1 or more"),
        (SACConfig(), {"entropy_coefficient": -1.0}, "entropy_coefficient"),
        (SACConfig(), {"tau": 2.0}, "tau"),
        (TD3Config(), {"policy_delay": 0}, "policy_delay"),
        (TD3Config(), {"exploration_noise": -0.1}, "allowed is 0 or more"),
    ],
)
def test_senseless_values_raise(
    config: ModelFreeConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **changes)


@pytest.mark.parametrize("config", [PPOConfig, SACConfig, TD3Config])
def test_unknown_keys_raise(config: type) -> None:
    with pytest.raises(ValidationError, match="n_steps"):
        TypeAdapter(config).validate_python({"n_steps": 5})


def test_the_module_is_light() -> None:
    code = (
        "import sys, separatrix.agents.common.stable_baselines3.config;"
        "assert not {'torch', 'stable_baselines3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
