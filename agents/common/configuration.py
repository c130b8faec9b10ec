"""Experiments as YAML: read strictly, checked against the schema, written back without loss."""

import dataclasses
import json
import reprlib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from separatrix.agents.common.strict_yaml import StrictDumper, load_strictly
from separatrix.agents.experiment import EnvironmentConfig, ExperimentConfig
from separatrix.envs.core.registration import REGISTRY, suggest

GENERAL_OPTIONS = ("dtype", "backend")
"""Options that every environment has beside its own, see `make_environment`."""

Group = Literal["experiment", "debug"]


class ConfigurationError(ValueError):
    """A configuration is wrong; the message names the file, the key, and what is allowed."""


def experiment_names(group: Group = "experiment") -> list[str]:
    """Names of the experiments that come with the package, sorted.

    Args:
        group: `experiment`, or `debug` for those that take seconds.

    Returns:
        The names, without `.yaml`.
    """
    folder = resources.files("separatrix") / "configs" / group
    return sorted(
        path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml")
    )


def load_experiment(name_or_path: str | Path) -> ExperimentConfig:
    """Read an experiment.

    Args:
        name_or_path: Path of a YAML file; or the name of an experiment of the package, such as
            `lorenz_ppo`, or `debug/lorenz_ppo` for one that takes seconds.

    Returns:
        The experiment.

    Raises:
        ConfigurationError: If there is no such experiment, or it does not follow the schema.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read {path}: {error}") from error
        return parse_experiment(text, str(path))
    names = experiment_names() + [f"debug/{name}" for name in experiment_names("debug")]
    if str(name_or_path) not in names:
        raise ConfigurationError(
            f"got experiment {str(name_or_path)!r}; {suggest(str(name_or_path), names)}, "
            "or the path of a .yaml file"
        )
    name = f"{name_or_path}.yaml" if "/" in str(name_or_path) else f"experiment/{name_or_path}.yaml"
    file = resources.files("separatrix") / "configs" / name
    return parse_experiment(file.read_text(encoding="utf-8"), f"configs/{name}")


def parse_experiment(text: str, source: str) -> ExperimentConfig:
    """Turn YAML text into an experiment.

    Args:
        text: The YAML document.
        source: Name of the file, for error messages.

    Returns:
        The experiment.

    Raises:
        ConfigurationError: If the text is not YAML, a key is repeated or unknown, a value has the
            wrong type or lies outside its range, or the environment is not registered.
    """
    try:
        data = load_strictly(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source}: {' '.join(str(error).split())}") from error
    try:
        # Through JSON: strict, yet a list may become a tuple and a mapping a dataclass.
        config = TypeAdapter(ExperimentConfig).validate_json(json.dumps(data), strict=True)
    except TypeError as error:
        allowed = "text, numbers, true, false, null, lists and mappings"
        raise ConfigurationError(f"{source}: allowed are {allowed}: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(_describe(error, data, source)) from error
    _check_environment(config.environment, source)
    return config


def dump_experiment(config: ExperimentConfig) -> str:
    """Write an experiment as YAML, with every default spelled out.

    Args:
        config: The experiment.

    Returns:
        Text from which `parse_experiment` makes an equal experiment.
    """
    return yaml.dump(experiment_data(config), Dumper=StrictDumper, sort_keys=False)


def experiment_data(config: ExperimentConfig) -> dict[str, Any]:
    """Turn an experiment into JSON values.

    Args:
        config: The experiment.

    Returns:
        Nested mappings, with every default spelled out.
    """
    data: dict[str, Any] = TypeAdapter(ExperimentConfig).dump_python(config, mode="json")
    return data


def differences(before: Any, after: Any, key: str = "") -> list[str]:
    """Tell where two experiments differ.

    Args:
        before: What `experiment_data` returned for the one.
        after: The same for the other.
        key: Where in the experiment these are; empty for the whole.

    Returns:
        A text such as `agent.gamma: 0.99, now 0.98` for each value that differs.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(name for name in after if name not in before)]
        return [
            text
            for name in names
            for text in differences(before.get(name), after.get(name), f"{key}.{name}".strip("."))
        ]
    return [] if before == after else [f"{key}: {before!r}, now {after!r}"]


def check_experiment(config: ExperimentConfig, source: str) -> ExperimentConfig:
    """Check an experiment that was changed in memory as if it came from a file.

    Args:
        config: The experiment.
        source: Where the changes come from, for error messages.

    Returns:
        An equal experiment.

    Raises:
        ConfigurationError: As `parse_experiment`.
    """
    return parse_experiment(dump_experiment(config), source)


def _check_environment(environment: EnvironmentConfig, source: str) -> None:
    """Refuse ids and names of options that are not registered; values are checked when made."""
    if environment.id not in REGISTRY:
        raise ConfigurationError(
            f"{source}: environment.id: got {environment.id!r}; {suggest(environment.id, REGISTRY)}"
        )
    names = [*REGISTRY[environment.id].options, *GENERAL_OPTIONS]
    for name in environment.options:
        if name not in names:
            raise ConfigurationError(
                f"{source}: environment.options.{name}: unknown option of {environment.id}; "
                f"{suggest(name, names)}"
            )


def _describe(error: ValidationError, data: Any, source: str) -> str:
    """One sentence for the first thing that is wrong: file, key, what was got, what is allowed."""
    errors = error.errors()
    unknown = [e for e in errors if e["type"] == "unexpected_keyword_argument"]
    first = (unknown or errors)[0]  # a misspelt key explains the missing one
    path, value = _locate(first["loc"], data)
    key = ".".join(path) or "the document"
    match first["type"]:
        case "missing":
            return (
                f"{source}: {'.'.join([*path, str(first['loc'][-1])])}: missing; it must be given"
            )
        case "unexpected_keyword_argument":
            keys = _keys_at(path[:-1], data)
            return f"{source}: {key}: unknown key; {suggest(path[-1], keys)}"
        case "value_error":
            return f"{source}: {key}: {first['ctx']['error']}"
        case "union_tag_invalid":
            key, value = f"{key}.{_discriminator(first)}", first["ctx"]["tag"]
            allowed = first["ctx"]["expected_tags"]
        case "union_tag_not_found":
            return f"{source}: {key}.{_discriminator(first)}: missing; it must be given"
        case _ if path[:2] == ["environment", "options"] and len(path) > 2:
            lists = "a list of numbers, of texts, or of lists of numbers"
            allowed = f"a number, true or false, text, or {lists}"
        case _:
            # Every member of a union has its own complaint about the same key.
            same = [e["msg"] for e in errors if _locate(e["loc"], data)[0] == path]
            allowed = " or ".join(message.removeprefix("Input should be ") for message in same)
    return f"{source}: {key}: got {reprlib.repr(value)}; allowed: {allowed}"


def _discriminator(error: Any) -> str:
    """Name of the key that tells the members of a union apart."""
    return error["ctx"]["discriminator"].strip("'")


def _locate(location: tuple[int | str, ...], data: Any) -> tuple[list[str], Any]:
    """The keys of a location, and the value there.

    The location of an error also names the members of unions, which are no keys of the file.
    """
    path = []
    for part in location:
        is_index = isinstance(data, list) and isinstance(part, int)
        if is_index or (isinstance(data, dict) and part in data):
            data = data[part]
            path.append(str(part))
    return path, data


def _keys_at(path: list[str], data: Any) -> list[str]:
    """Names of the fields of the dataclass at a path of the schema."""
    schema: Any = ExperimentConfig
    for part in path:
        if isinstance(data, list):
            schema, data = get_args(schema)[0], data[int(part)]
        else:
            schema, data = get_type_hints(schema)[part], data[part]
        for member in get_args(schema) if isinstance(data, dict) else ():
            if any(data.get(tag) == getattr(member, tag, data) for tag in ("algorithm", "kind")):
                schema = member
    return [field.name for field in dataclasses.fields(schema)]
