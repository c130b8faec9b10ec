import pytest
from hypothesis import given
from hypothesis import strategies as st

from separatrix.cli.options import format_options, parse_options

finite = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(1 - 2**63, 2**63 - 1)
values = st.one_of(st.booleans(), integers, finite, st.text(), st.lists(finite))


def test_values_are_those_of_yaml() -> None:
    pairs = ["a=0.1", "b=1e-3", "c=[1, 2.5]", "d=true", "task=hold", "e=x=y"]
    expected = {"a": 0.1, "b": 1e-3, "c": [1, 2.5], "d": True, "task": "hold", "e": "x=y"}
    assert parse_options(pairs) == expected


@given(st.dictionaries(st.from_regex("[a-z]+", fullmatch=True), values))
def test_options_survive_a_round_trip(options: dict) -> None:
    assert parse_options(format_options(options)) == options


@pytest.mark.parametrize("pairs", [["a"], ["a="], ["=1"], [""], ["a=1", "a=2"], ["a=[1"]])
def test_mistakes_are_refused(pairs: list[str]) -> None:
    with pytest.raises(ValueError, match="option"):
        parse_options(pairs)
