"""Actions, resets and arguments of make: anything that Python, numpy or torch can write down."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import separatrix  # noqa: F401
from separatrix.envs.core.registration import REGISTRY

IDS = sorted(id for id in REGISTRY if "Test" not in id)

numbers = st.one_of(
    st.floats(-2, 2).map(repr),
    st.floats().map(repr),
    st.integers().map(repr),
    st.integers(-3, 3).map(repr),
    st.sampled_from(
        [
            "1e39",
            "-1e300",
            "5e-324",
            "-0.0",
            "2**63",
            "10**400",
            "True",
            "False",
            "None",
            "2j",
            "fractions.Fraction(1, 3)",
            "decimal.Decimal('0.1')",
            "np.float16(1)",
            "np.bool_(1)",
            "np.int64(-2)",
            "np.float32('nan')",
            "np.longdouble(1)",
            "torch.tensor(0.5)",
        ]
    ),
)
words = st.one_of(
    st.text(max_size=6).map(repr),
    st.binary(max_size=4).map(repr),
    st.sampled_from(["'cpu'", "'cuda'", "'meta'", "'0.5'", "'nan'", "torch.device('cuda')"]),
)
shapes = st.one_of(
    st.sampled_from(["()", "(1,)", "(3,)", "(3, 1)", "(1, 3)", "(0,)", "(3, 0)", "(2, 1)"]),
    st.lists(st.integers(0, 4), max_size=4).map(lambda sizes: repr(tuple(sizes))),
)
numpy_types = st.sampled_from(
    [
        "f2",
        "f4",
        "f8",
        ">f4",
        ">f8",
        "i1",
        "i8",
        "u1",
        "u8",
        "?",
        "c8",
        "c16",
        "O",
        "U3",
        "S2",
        "M8[s]",
        "m8[s]",
        "g",
        "f4,i4",
        "V3",
    ]
)
torch_types = st.sampled_from(
    [
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int8",
        "int64",
        "uint8",
        "bool",
        "complex64",
        "uint64",
        "float8_e5m2",
    ]
)
arrays = st.one_of(
    st.builds("np.zeros({}, {!r})".format, shapes, numpy_types),
    st.builds("np.full({}, {})".format, shapes, numbers),
    st.builds("np.ones({}, {!r}){}".format, shapes, numpy_types, st.sampled_from(["", ".T", "*9"])),
    st.builds("readonly(np.full({}, {}))".format, shapes, numbers),
    st.builds("np.linspace(-1, 1, {})[::-{}]".format, st.integers(1, 8), st.integers(1, 3)),
    st.builds("np.linspace(-1, 1, {}).reshape(-1, 1)[::-1]".format, st.integers(1, 4)),
    st.builds("np.broadcast_to(np.float32({}), {})".format, numbers, shapes),
    st.builds("np.ma.masked_array(np.ones({}), mask=True)".format, shapes),
    st.builds("array.array('d', [{}])".format, st.floats(-1, 1)),
)
tensors = st.one_of(
    st.builds("torch.zeros({}, dtype=torch.{})".format, shapes, torch_types),
    st.builds("torch.full({}, {})".format, shapes, st.floats().map("{!r}".format)),
    st.builds("torch.ones({}, requires_grad=True)".format, shapes),
    st.builds("torch.ones({}, requires_grad=True) * 2".format, shapes),
    st.builds("torch.ones({}, device='meta')".format, shapes),
    st.builds("torch.ones({}).to_sparse()".format, shapes),
    st.builds("torch.ones(1).expand({})".format, shapes),
    st.builds("torch.nn.Parameter(torch.ones({}))".format, shapes),
    st.builds("torch.quantize_per_tensor(torch.ones({}), 0.1, 0, torch.qint8)".format, shapes),
    st.builds("torch.linspace(-1, 1, {}).flip(0).view(-1, 1).conj()".format, st.integers(0, 5)),
)
oddities = st.sampled_from(
    [
        "object()",
        "Raising()",
        "endless()",
        "range(3)",
        "{}",
        "{1, 2}",
        "{'action': 1}",
        "[]",
        "()",
        "[[]]",
        "[[1.0], [2.0, 3.0]]",
        "[[1.0], 2.0]",
        "[None]",
        "(i for i in [0.5])",
        "Ellipsis",
        "memoryview(b'ab')",
        "slice(3)",
        "int",
        "math",
        "np.ma.masked",
        "NotImplemented",
        "[nan]",
        "np.array([0.5], dtype=object)",
        "np.array([[1], [None], [2]])",
        "torch.Tensor",
        "lambda: 0",
        "gym.spaces.Box(-1, 1, (1,))",
        "np.random.default_rng(0)",
        "torch.Generator()",
    ]
)
leaves = st.one_of(numbers, words, arrays, tensors, oddities)
anything = st.one_of(
    leaves,
    st.lists(numbers, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
    st.lists(leaves, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    st.lists(numbers, min_size=3, max_size=3).map("[[{0[0]}], [{0[1]}], [{0[2]}]]".format),
)
environments = st.sampled_from(["single", "batch"])

right_shapes = st.sampled_from(["(1,)", "(3, 1)"])
actions = st.one_of(
    anything,
    numbers.map("[{}]".format),
    st.builds("np.full({}, {})".format, right_shapes, numbers),
    st.builds("np.ones({}, {!r})".format, right_shapes, numpy_types),
    st.builds("readonly(np.full({}, {}))".format, right_shapes, numbers),
    st.builds("torch.full({}, {})".format, right_shapes, st.floats().map(repr)),
    st.builds("torch.ones({}, dtype=torch.{})".format, right_shapes, torch_types),
)
seeds = st.one_of(
    anything,
    st.sampled_from(["0", "2**63 - 1", "2**63 - 3", "2**64", "-1", "[0, 2**63 - 1, 5]", "1e3"]),
    st.lists(st.integers(-1, 2**64), max_size=4).map(repr),
    st.lists(st.integers(-1, 2**63), min_size=3, max_size=3).map("np.array({})".format),
)
masks = st.one_of(
    anything,
    st.lists(st.booleans(), max_size=4).map(repr),
    st.lists(st.booleans(), min_size=3, max_size=3).map("np.array({})".format),
    st.lists(st.booleans(), min_size=3, max_size=3).map("torch.tensor({})".format),
)
reset_options = st.one_of(
    masks.map("{{'reset_mask': {}}}".format),
    st.builds("{{{}: {}}}".format, words, numbers),
    st.sampled_from(["{}", "None", "[]", "3", "'reset_mask'", "{'reset_mask': None, 1: 2}"]),
    st.builds("{{'reset_mask': {}, 'x': 1}}".format, masks),
)
resets = st.one_of(
    st.builds("{{'seed': {}}}".format, seeds),
    st.builds("{{'options': {}}}".format, reset_options),
    st.builds("{{'seed': {}, 'options': {}}}".format, seeds, reset_options),
)


@st.composite
def made(draw: Any) -> dict[str, Any]:
    """Arguments of make or make_vec: one to three of them wrong, or right by luck."""
    id, batch = draw(st.sampled_from(IDS)), draw(st.booleans())
    known = [*REGISTRY[id].options, "device", "dtype", "backend", "render_mode"]
    known += ["output", "autoreset_mode"] if batch else []
    name = st.one_of(st.sampled_from(known), st.from_regex("[a-z_]{1,9}", fullmatch=True))
    # Whatever the options are set to, nothing has to be compiled.
    arguments = {"backend": "'torch'"} if "torch" in REGISTRY[id].backends else {}
    for each in draw(st.lists(name, max_size=3)):
        arguments[each] = draw(VALUES.get(each, st.one_of(anything, st.floats(-40, 40).map(repr))))
    if batch:
        arguments["num_envs"] = draw(st.sampled_from(["1", "2", "3"]))
        if draw(st.integers(0, 9)) == 0:
            arguments["num_envs"] = draw(st.one_of(anything, st.sampled_from(HUGE)))
        if draw(st.integers(0, 9)) == 0:
            arguments["max_episode_steps"] = draw(st.one_of(anything, st.sampled_from(HUGE)))
    for foreign in ("id", "entry_point", "kwargs", "wrappers", "environment_id", "wrap"):
        arguments.pop(foreign, None)  # Gymnasium's own
    text = ", ".join(f"{key!r}: {value}" for key, value in arguments.items())
    return {"id": id, "text": f"{{{text}}}", "batch": batch}


HUGE = ["2**31", "2**40", "2**63", "2**64", "10**30"]
VALUES: dict[str, st.SearchStrategy[str]] = {
    "substeps": st.one_of(st.sampled_from(["1", "2", "20", *HUGE]), words, oddities, tensors),
    "device": st.one_of(words, oddities, st.sampled_from(["0", "-1", "2**70", "None", "'cpu:9'"])),
    "backend": st.one_of(words, oddities, arrays, st.just("'torch'")),
    # Gymnasium reads it as text before it makes anything.
    "render_mode": st.sampled_from(["None", "'rgb_array'", "'ansi'", "''"]),
    "near": st.one_of(anything, st.lists(st.floats(-20, 20), max_size=4).map(repr)),
}


def test_any_action(offer: Any, tries: Any) -> None:
    @tries(fast=400, thorough=30_000)
    @given(env=environments, text=actions)
    def offered(env: str, text: str) -> None:
        offer("action", env=env, text=text)

    offered()


def test_any_reset(offer: Any, tries: Any) -> None:
    @tries(fast=400, thorough=30_000)
    @given(env=environments, text=resets)
    def offered(env: str, text: str) -> None:
        offer("reset", env=env, text=text)

    offered()


def test_any_argument_of_make(offer: Any, tries: Any) -> None:
    @tries(fast=150, thorough=3_000)
    @given(request=made())
    def offered(request: dict[str, Any]) -> None:
        offer("make", **request)

    offered()


@pytest.mark.parametrize("env", ["single", "batch"])
@pytest.mark.parametrize("text", ["[[0.5], [1], [-2]]", "[0.5]", "np.ones((3, 1), '>f8')[::-1]"])
def test_worker_accepts_what_is_right_and_refuses_what_is_wrong(
    offer: Any, env: str, text: str
) -> None:
    offer("action", env=env, text=text)
