"""YAML as data: keys are text and come once, numbers fit into 64 bits, there are no aliases."""

import math
import re
import reprlib
from collections.abc import Hashable
from typing import Any

import yaml

FLOAT_TAG = "tag:yaml.org,2002:float"
# YAML 1.1, which PyYAML follows, reads 1e-3 as text; YAML 1.2 (section 10.3.2) as a number.
EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")


class StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses repeated keys, keys that are not text, and aliases.

    It also refuses .inf, .nan and integers of more than 64 bits, and reads 1e-3 as a number.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, see `yaml.SafeLoader`.

        A few lines of aliases to aliases stand for more values than any memory holds, or contain
        themselves.
        """
        if self.check_event(yaml.AliasEvent):
            alias = self.get_event()
            raise yaml.constructor.ConstructorError(
                None, None, f"got alias *{alias.anchor}; allowed are values", alias.start_mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build a value, see `yaml.SafeLoader`, whose functions let errors of Python through."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            value = reprlib.repr(node.value)
            raise _error(f"cannot read {value} as {node.tag}: {error!r}", node) from error

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Build a number, see `yaml.SafeLoader`."""
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise _error(f"got number {node.value}; allowed are finite numbers", node)
        return value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Build an integer, see `yaml.SafeLoader`."""
        value: int = super().construct_yaml_int(node)
        if abs(value) >= 2**63:
            raise _error("got an integer of more than 64 bits; allowed are shorter ones", node)
        return value

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping, see `yaml.SafeLoader`."""
        seen = set()
        if not isinstance(node, yaml.MappingNode):
            raise _error(f"expected a mapping, but found {reprlib.repr(node.value)}", node)
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _error(f"got key {key!r}; allowed are keys of text", key_node)
            if key in seen:
                raise _error(f"key {key!r} is repeated", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


class StrictDumper(yaml.SafeDumper):
    """A safe dumper whose text StrictLoader reads back without loss."""

    def ignore_aliases(self, data: Any) -> bool:
        """Spell everything out, without anchors."""
        return True


def _error(problem: str, node: yaml.Node) -> yaml.YAMLError:
    """An error that names the line."""
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


StrictLoader.add_constructor(FLOAT_TAG, StrictLoader.construct_yaml_float)
StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.construct_yaml_int)
for _kind in (StrictLoader, StrictDumper):
    _kind.add_implicit_resolver(FLOAT_TAG, EXPONENT, list("-+0123456789"))


def load_strictly(text: str) -> Any:
    """Read a YAML document as plain values.

    Args:
        text: The document.

    Returns:
        Mappings, lists, text, numbers, booleans, dates and None.

    Raises:
        yaml.YAMLError: If the text is not YAML, a key is repeated or is not text, a number is not
            finite or too long, a value cannot be read, there are aliases, or nesting is too deep.
    """
    try:
        return yaml.load(text, Loader=StrictLoader)
    except RecursionError as error:
        raise yaml.YAMLError("values are nested too deep") from error
