import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from separatrix.agents.common.configuration import (
    ConfigurationError,
    check_experiment,
    dump_experiment,
    experiment_names,
    load_experiment,
    parse_experiment,
)
from separatrix.agents.common.stable_baselines3.config import PPOConfig, SACConfig, TD3Config
from separatrix.agents.experiment import EnvironmentConfig, ExperimentConfig
from separatrix.agents.offline.data.config import dataset_names
from separatrix.envs.core.registration import REGISTRY

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
GOOD = """
environment:
  id: separatrix/Lorenz-v0
  options: {authority: 0.1, rho: [28, 29.5]}
agent: {algorithm: ppo, learning_rate: 1e-3, policy_layers: [32, 16]}
total_steps: 100
"""
REQUIRED = {"lorenz_ppo", "lorenz_sac", "lorenz_td3", "rossler_ppo", "lorenz96_ppo"} | {
    "cart_pole_ppo",
    "cart_pole_sac",
    "sindy_rl_cartpole",
    "sindy_rl_lorenz",
    "sindy_rl_swimmer",
}
OPTIONS = ["authority", "sigma", "rho", "dtype", "backend"]
finite = st.floats(allow_nan=False, allow_infinity=False)
option_values = st.one_of(
    st.booleans(), st.integers(-(2**53), 2**53), finite, st.text(), st.lists(finite, max_size=3)
)


def test_every_file_is_found() -> None:
    found = {path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.*")}
    listed = {f"experiment/{name}" for name in experiment_names()}
    listed |= {f"dataset/{name}" for name in dataset_names()}
    assert found == listed | {f"debug/{name}" for name in experiment_names("debug")}
    assert set(experiment_names()) >= REQUIRED
    assert set(experiment_names("debug")) >= {"lorenz_ppo", "lorenz_sac", "lorenz_td3"}


@pytest.mark.parametrize(
    "name", [*experiment_names(), *(f"debug/{name}" for name in experiment_names("debug"))]
)
def test_every_experiment_is_valid_and_survives_a_round_trip(name: str) -> None:
    config = load_experiment(name)
    assert config.environment.id in REGISTRY
    # MBPO is the loop of SINDy-RL with networks, SAC and short branches.
    assert config.agent.algorithm in name or name == "mbpo_cartpole"
    assert parse_experiment(dump_experiment(config), "dump") == config


def test_values_have_the_types_of_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    config = load_experiment(path)
    assert config == load_experiment(str(path))
    assert isinstance(config.agent, PPOConfig)
    assert config.agent.learning_rate == 1e-3
    assert config.agent.policy_layers == (32, 16)
    assert config.agent.gamma == PPOConfig().gamma
    assert config.environment.options == {"authority": 0.1, "rho": [28.0, 29.5]}


@given(
    options=st.dictionaries(st.sampled_from(OPTIONS), option_values),
    agent=st.sampled_from([PPOConfig(), SACConfig(), TD3Config(learning_rate=1e-12)]),
    device=st.text(),
)
def test_any_experiment_survives_a_round_trip(
    options: dict, agent: PPOConfig | SACConfig | TD3Config, device: str
) -> None:
    environment = EnvironmentConfig("separatrix/Lorenz-v0", device=device, options=options)
    config = ExperimentConfig(environment, agent, total_steps=1)
    again = parse_experiment(dump_experiment(config), "dump")
    assert again == config
    for name, value in options.items():
        assert type(again.environment.options[name]) is type(value)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("learning_rate", "learning_rat", ["agent.learning_rat", "did you mean 'learning_rate'?"]),
        ("total_steps", "totalsteps", ["totalsteps", "unknown key", "did you mean 'total_steps'?"]),
        ("options:", "option:", ["environment.option", "did you mean 'options'?", "num_envs"]),
        ("ppo", "pppo", ["agent.algorithm", "'pppo'", "'ppo', 'maskable_ppo', 'sac', 'td3'"]),
        ("algorithm: ppo, ", "", ["agent.algorithm", "missing"]),
        ("total_steps: 100", "seed: 1", ["total_steps", "missing"]),
        ("total_steps: 100", "total_steps: '100'", ["total_steps", "'100'", "integer"]),
        ("total_steps: 100", "total_steps: 100.5", ["total_steps", "100.5", "integer"]),
        ("total_steps: 100", "total_steps: 0", ["total_steps", "got 0", "greater than"]),
        ("total_steps: 100", "total_steps: 1\nseed: -1", ["seed", "got -1"]),
        ("total_steps: 100", "total_steps: 1\ntotal_steps: 2", ["'total_steps' is repeated"]),
        ("authority: 0.1", "authority: 1, authority: 2", ["'authority' is repeated", "line 4"]),
        ("authority: 0.1", "authority: .nan", [".nan", "finite", "line 4"]),
        ("authority: 0.1", "authority: {a: 1}", ["options.authority", "a list of numbers"]),
        ("[28, 29.5]", "[28, a]", ["options.rho", "a list of numbers"]),
        ("authority", "authoritys", ["options.authoritys", "did you mean 'authority'?", "backend"]),
        ("authority", "3", ["got key 3", "keys of text"]),
        ("1e-3", "true", ["agent.learning_rate", "got True", "number"]),
        ("1e-3", "-1e-3", ["agent", "learning_rate", "above 0"]),
        ("[32, 16]", "[32, 1.5]", ["agent.policy_layers.1", "got 1.5", "integer"]),
        ("Lorenz-v0", "Lorentz-v0", ["environment.id", "did you mean 'separatrix/Lorenz-v0'?"]),
        ("separatrix/Lorenz-v0", "CartPole-v1", ["environment.id", "'CartPole-v1'"]),
        ("separatrix/Lorenz-v0", "!!python/object/apply:os.getcwd []", ["python/object"]),
        ("total_steps: 100", "total_steps: [", ["mine.yaml"]),
        ("total_steps: 100", "total_steps: &n 100\nseed: *n", ["alias *n", "line 7"]),
        ("total_steps: 100", f"total_steps: {'9' * 30}", ["more than 64 bits", "line 6"]),
        ("total_steps: 100", f"total_steps: {'9' * 5000}", ["cannot read", "line 6"]),
        ("total_steps: 100", "total_steps: 2001-99-99", ["cannot read '2001-99-99'", "line 6"]),
        ("total_steps: 100", "total_steps: !!map 100", ["expected a mapping", "line 6"]),
        ("total_steps: 100", f"total_steps: {'[' * 5000}", ["nested too deep"]),
        (GOOD, "", ["document", "None"]),
        (GOOD, "- 1", ["document", "[1]"]),
    ],
)
def test_mistakes_name_file_key_and_what_is_allowed(old: str, new: str, parts: list[str]) -> None:
    assert old in GOOD
    with pytest.raises(ConfigurationError) as caught:
        parse_experiment(GOOD.replace(old, new), "mine.yaml")
    message = str(caught.value)
    assert message.startswith("mine.yaml: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_unions_say_everything_that_is_allowed() -> None:
    hyper_parameters = "ppo, learning_rate: 1e-3, policy_layers: [32, 16]"
    text = GOOD.replace(hyper_parameters, "sac, entropy_coefficient: aut")
    with pytest.raises(ConfigurationError, match="got 'aut'; allowed: a valid number or 'auto'"):
        parse_experiment(text, "mine.yaml")


def test_unknown_experiments_are_named_with_those_that_exist(tmp_path: Path) -> None:
    message = r"did you mean 'lorenz_ppo'\?.*debug/lorenz_ppo.* others"
    with pytest.raises(ConfigurationError, match=message):
        load_experiment("lorenz_pp")
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_experiment(tmp_path / "missing.yaml")


def test_changes_in_memory_are_checked_too() -> None:
    config = parse_experiment(GOOD, "mine.yaml")
    assert check_experiment(dataclasses.replace(config, seed=3), "command line").seed == 3
    with pytest.raises(ConfigurationError, match="command line: seed: got -3"):
        check_experiment(dataclasses.replace(config, seed=-3), "command line")
