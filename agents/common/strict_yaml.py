"""YAML as data: keys are text and come once, numbers are finite, and 1e-3 is a number."""

import math
import re
from collections.abc import Hashable
from typing import Any

import yaml

FLOAT_TAG = "tag:yaml.org,2002:float"
# YAML 1.1, which PyYAML follows, reads 1e-3 as text; YAML 1.2 (section 10.3.2) as a number.
EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")


class StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses repeated keys, keys that are not text, and .inf and .nan."""

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Build a number, see `yaml.SafeLoader`."""
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise _error(f"got number {node.value}; allowed are finite numbers", node)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping, see `yaml.SafeLoader`."""
        seen = set()
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
for _kind in (StrictLoader, StrictDumper):
    _kind.add_implicit_resolver(FLOAT_TAG, EXPONENT, list("-+0123456789"))


def load_strictly(text: str) -> Any:
    """Read a YAML document as plain values.

    Args:
        text: The document.

    Returns:
        Mappings, lists, text, numbers, booleans, dates and None.

    Raises:
        yaml.YAMLError: If the text is not YAML, a key is repeated or is not text, or a number is
            not finite.
    """
    return yaml.load(text, Loader=StrictLoader)
