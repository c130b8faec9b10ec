"""Experiments as YAML: read strictly, checked against the schema, written back without loss."""

import dataclasses
import json
import reprlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from separatrix.agents.common.strict_yaml import StrictDumper, load_strictly
from separatrix.agents.experiment import EnvironmentConfig, ExperimentConfig
from separatrix.envs.core.registration import REGISTRY, suggest

GENERAL_OPTIONS = ("dtype", "backend")
"""Options that every environment has beside its own, see `make_environment`."""

Group = Literal["experiment", "debug"]

Schema = TypeVar("Schema")


class ConfigurationError(ValueError):
    """A configuration is wrong; the message names the file, the key, and what is allowed."""


def experiment_names(group: Group = "experiment") -> list[str]:
    """Names of the experiments that come with the package, sorted.

    Args:
        group: `experiment`, or `debug` for those that take seconds.

    Returns:
        The names, without `.yaml`.
    """
    return shipped_names(group)


def shipped_names(folder: str) -> list[str]:
    """Names of the files in a folder of `configs`, sorted.

    Args:
        folder: Name of the folder.

    Returns:
        The names, without `.yaml`.
    """
    found = resources.files("separatrix") / "configs" / folder
    return sorted(
        path.name.removesuffix(".yaml") for path in found.iterdir() if path.name.endswith(".yaml")
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
    files = {name: f"experiment/{name}.yaml" for name in experiment_names()}
    files |= {f"debug/{name}": f"debug/{name}.yaml" for name in experiment_names("debug")}
    return parse_experiment(*read_text(name_or_path, "experiment", files))


def read_text(name_or_path: str | Path, kind: str, shipped: Mapping[str, str]) -> tuple[str, str]:
    """Read the text of a configuration.

    Args:
        name_or_path: Path of a YAML file, or a name.
        kind: What it is, for error messages, such as "experiment".
        shipped: Path within `configs` of each configuration of the package, by name.

    Returns:
        The text, and the name of the file.

    Raises:
        ConfigurationError: If there is no such configuration.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read {path}: {error}") from error
    if str(name_or_path) not in shipped:
        raise ConfigurationError(
            f"got {kind} {str(name_or_path)!r}; {suggest(str(name_or_path), shipped)}, "
            "or the path of a .yaml file"
        )
    name = shipped[str(name_or_path)]
    file = resources.files("separatrix") / "configs" / name
    return file.read_text(encoding="utf-8"), f"configs/{name}"


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
    config = parse(text, source, ExperimentConfig)
    check_environment(config.environment, source)
    return config


def parse(text: str, source: str, schema: type[Schema]) -> Schema:
    """Turn YAML text into an object of a schema.

    Args:
        text: The YAML document.
        source: Name of the file, for error messages.
        schema: A dataclass of which pydantic checks the types.

    Returns:
        The object.

    Raises:
        ConfigurationError: If the text is not YAML, a key is repeated or unknown, or a value has
            the wrong type or lies outside its range.
    """
    try:
        data = load_strictly(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source}: {' '.join(str(error).split())}") from error
    try:
        # Through JSON: strict, yet a list may become a tuple and a mapping a dataclass.
        return TypeAdapter(schema).validate_json(json.dumps(data), strict=True)
    except TypeError as error:
        allowed = "text, numbers, true, false, null, lists and mappings"
        raise ConfigurationError(f"{source}: allowed are {allowed}: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(_describe(error, data, source, schema)) from error


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


def check_environment(environment: EnvironmentConfig, source: str) -> None:
    """Refuse ids and names of options that are not registered; values are checked when made.

    Args:
        environment: Part of a configuration.
        source: Name of the file, for error messages.

    Raises:
        ConfigurationError: If the id or an option is unknown.
    """
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


def _describe(error: ValidationError, data: Any, source: str, schema: Any) -> str:
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
            keys = _keys_at(path[:-1], data, schema)
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


def _keys_at(path: list[str], data: Any, schema: Any) -> list[str]:
    """Names of the fields of the dataclass at a path of the schema."""
    for part in path:
        if isinstance(data, list):
            schema, data = get_args(schema)[0], data[int(part)]
        else:
            schema, data = get_type_hints(schema)[part], data[part]
        members = [member for member in get_args(schema) if dataclasses.is_dataclass(member)]
        for member in members if isinstance(data, dict) else ():
            tags = ("algorithm", "kind")
            # What may be absent has one member, and no tag.
            if len(members) == 1 or any(data.get(t) == getattr(member, t, data) for t in tags):
                schema = member
    return [field.name for field in dataclasses.fields(schema)]
