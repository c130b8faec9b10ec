"""Run folders that are damaged: what is read is what was written, or it is said what is lost."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

FILES = ("tensors", "state", "SHA256SUMS", "metrics", "config", "events", "command", "git")
WAYS = ("flip", "cut", "overwrite", "insert", "zero", "empty", "swap", "remove", "folder", "rename")
data = st.binary(max_size=40).map(lambda found: base64.b64encode(found).decode())
damages = st.fixed_dictionaries(
    {
        "how": st.sampled_from(WAYS),
        "file": st.sampled_from([*FILES, "tensors", "state", "metrics"]),
        "which": st.integers(0, 1),
        "at": st.floats(0, 1),
        "data": data,
    }
)


def test_any_damage(offer: Any, tries: Any) -> None:
    @tries(fast=150, thorough=3_000)
    @given(damages=st.lists(damages, min_size=1, max_size=3))
    def offered(damages: list[dict[str, Any]]) -> None:
        offer("damaged run", damages=damages)

    offered()


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("file", FILES)
def test_every_file_in_every_way(offer: Any, how: str, file: str) -> None:
    for which in (0, 1):
        damage = {"how": how, "file": file, "which": which, "at": 0.5, "data": "AAAA"}
        offer("damaged run", damages=[damage])
