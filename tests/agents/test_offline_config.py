"""Experiments of offline agents: what is misspelt or out of range is named, at every depth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from separatrix.agents.common.configuration import (
    ConfigurationError,
    dump_experiment,
    experiment_names,
    load_experiment,
    parse_experiment,
)
from separatrix.agents.offline.config import MopoConfig, OfflineConfig
from separatrix.agents.offline.data.config import dataset_names, load_dataset_config
from separatrix.agents.offline.model_config import FilterConfig

NAMES = [name for name in experiment_names() if name.startswith("offline_")]


@pytest.fixture(scope="module")
def text() -> str:
    """An experiment with everything that can be nested."""
    config = load_experiment("debug/offline_td3_bc")
    method = MopoConfig(filter=FilterConfig())
    return dump_experiment(replace(config, agent=OfflineConfig("x", method=method)))


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("target_rate", "agent.targetrate"),
        ("penalty", "agent.method.penalti"),
        ("elites", "agent.method.model.elits"),
        ("starts", "agent.method.rollouts.stars"),
        ("threshold", "agent.method.filter.thresholds"),
        ("snapshots", "agent.method.filter.reward.snapshot"),
    ],
)
def test_misspelt_keys_are_named_at_every_depth(key: str, place: str, text: str) -> None:
    wrong = text.replace(f" {key}:", f" {place.rpartition('.')[2]}:")
    with pytest.raises(ConfigurationError, match=rf"{place}: unknown key; did you mean '{key}'\?"):
        parse_experiment(wrong, "mine")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("kind: mopo", "kind: mobo", r"agent\.method\.kind: got 'mobo'; allowed: 'behaviour_cl"),
        ("critics: 2", "critics: 0", r"agent\.method: got critics = 0; allowed is above 0"),
        ("samples: 2", "samples: 0", r"agent\.method\.filter: got samples = 0; allowed is above 0"),
        ("elites: 5", "elites: 8", r"agent\.method\.model: got elites = 8; allowed is 1 to 7"),
        ("gamma: 0.99", "gamma: 1.0", r"agent: got gamma = 1\.0; allowed is from 0 to below 1"),
        ("dataset: x", "dataset: ''", r"agent: got dataset = ''; allowed is a folder or a file"),
        ("on_cut: lowest_value", "on_cut: 0", r"agent\.method\.filter\.on_cut: got 0; allowed"),
    ],
)
def test_values_out_of_range_are_named(before: str, after: str, message: str, text: str) -> None:
    assert before in text
    with pytest.raises(ConfigurationError, match=message):
        parse_experiment(text.replace(before, after), "mine")


@pytest.mark.parametrize("name", NAMES)
def test_experiments_learn_from_data_that_can_be_collected(name: str) -> None:
    config = load_experiment(name)
    assert isinstance(config.agent, OfflineConfig)
    root, recording, recipe = config.agent.dataset.split("/")
    assert root == "datasets" and recording in dataset_names()
    recorded = load_dataset_config(recording)
    assert recipe in recorded.recipes
    assert recorded.environment.id == config.environment.id
    assert recorded.environment.options == config.environment.options


def test_methods_on_the_same_task_are_evaluated_alike() -> None:
    for task in ("pendulum", "lorenz", "cart_pole"):
        one, other = (load_experiment(f"offline_{task}_{kind}") for kind in ("td3_bc", "edac"))
        assert replace(one, agent=other.agent) == other
