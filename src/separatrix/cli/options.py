"""Options of an environment on the command line: `key=value`, the value as in YAML."""

import math
import reprlib
from collections.abc import Mapping, Sequence

import tyro
import yaml

from separatrix.agents.common.strict_yaml import StrictDumper, load_strictly
from separatrix.agents.experiment import OptionValue

Options = dict[str, OptionValue]


def parse_options(pairs: Sequence[str]) -> Options:
    """Read options.

    Args:
        pairs: Texts such as `authority=0.1`, `task=hold` or `rho=[20, 28]`.

    Returns:
        Value of each key.

    Raises:
        ValueError: If a text has no key or no value, a key is repeated, or the value is not YAML.
    """
    options: Options = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals or not text:
            raise ValueError(
                f"got option {reprlib.repr(pair)}; allowed is key=value, such as authority=0.1"
            )
        if key in options:
            raise ValueError(f"option {key!r} is repeated")
        try:
            options[key] = load_strictly(text)
        except yaml.YAMLError as error:
            raise ValueError(
                f"option {key!r}: cannot read {reprlib.repr(text)}: {error}"
            ) from error
    return options


def format_options(options: Mapping[str, OptionValue]) -> list[str]:
    """Write options as `parse_options` reads them."""
    return [f"{key}={_dump(value)}" for key, value in options.items()]


def _dump(value: OptionValue) -> str:
    text = yaml.dump(value, Dumper=StrictDumper, default_flow_style=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")


registry = tyro.constructors.ConstructorRegistry()
"""Makes tyro read a field of the type `Options` with `parse_options`."""


@registry.primitive_rule
def _options_rule(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[Options] | None:
    if info.type != Options:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="KEY=VALUE ...",
        instance_from_str=lambda arguments: parse_options(arguments),
        is_instance=lambda instance: isinstance(instance, dict),
        str_from_instance=format_options,
    )
