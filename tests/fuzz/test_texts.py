"""Configuration files, options and command lines: real ones with mutations, and any bytes."""

import base64
from importlib import resources
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from separatrix.agents.common.configuration import experiment_names
from separatrix.cli.main import COMMANDS

FOLDER = resources.files("separatrix") / "configs"
REAL = [
    (FOLDER / group / f"{name}.yaml").read_bytes()
    for group in ("debug", "experiment")
    for name in experiment_names(group)
]
scalars = st.one_of(
    st.floats().map(repr),
    st.integers().map(repr),
    st.text(max_size=8),
    st.sampled_from(
        [
            ".nan",
            ".inf",
            "1e999",
            "9" * 30,
            "9" * 5000,
            "1e-3",
            "0x1F",
            "0b1",
            "017",
            "1_0",
            "1:30",
            "2001-01-01",
            "2001-99-99",
            "null",
            "~",
            "yes",
            "'",
            '"\\ud800"',
            "!!int x",
            "!!bool 3",
            "!!binary =",
            "!!python/object:os.system ls",
            "!!set {a}",
            "!!omap x",
            "!!map x",
            "|",
            ">",
            "&a 1",
            "*a",
            "&a [*a]",
            "<<: {a: 1}",
            "[]",
            "{}",
            "[[",
            "{a",
            "[1, 2",
            "- - -",
            "? a",
            "[" * 3000,
            "{a: " * 3000,
            "- " * 3000,
            "\x00",
            "\ufeff",
            "%YAML 2.0",
            "---",
            "...",
            "#",
            "separatrix/Lorenz-v0",
            "Lorenz-v0",
            "ppo",
            "sac",
            "cpu",
            "cuda",
            "-1",
            "0",
            "1",
            "2.0",
        ]
    ),
).map(lambda text: text.encode(errors="surrogatepass"))
junk = st.one_of(scalars, st.binary(max_size=12))


@st.composite
def configurations(draw: Any) -> bytes:
    """A real configuration with a few mutations, by line or by byte."""
    lines = draw(st.sampled_from(REAL)).splitlines()
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[row].partition(b":")
        match draw(st.integers(0, 7)):
            case 0 | 1:
                lines[row] = key + colon + b" " + draw(junk)
            case 2:
                lines[row] = lines[row] + draw(junk)
            case 3:
                lines.insert(row, lines[draw(st.integers(0, len(lines) - 1))])
            case 4:
                lines[row] = b""
            case 5:
                lines[row] = b"  " + lines[row]
            case 6:
                lines[row] = draw(junk) + b": " + draw(junk)
            case _:
                lines[row] = key + b"x" + colon + b" 1"
    data = bytearray(b"\n".join(lines))
    for _ in range(draw(st.integers(0, 2))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


documents = st.one_of(configurations(), configurations(), configurations(), junk)


def test_any_configuration(offer: Any, tries: Any) -> None:
    @tries(fast=250, thorough=8_000)
    @given(data=documents)
    def offered(data: bytes) -> None:
        offer("configuration", data=base64.b64encode(data).decode())

    offered()


def test_any_option(offer: Any, tries: Any) -> None:
    @tries(fast=300, thorough=30_000)
    @given(key=st.text(max_size=5), value=junk.map(lambda data: data.decode(errors="replace")))
    def offered(key: str, value: str) -> None:
        offer("option", text=f"{key}={value}")

    offered()


texts = st.one_of(
    st.sampled_from(["3", "0.5", "-1", "0", "1e9", "nan", "inf", "", "-", "--", "true", "[1, 2]"]),
    st.sampled_from(["Lorenz-v0", "Lorens-v0", "ppo", "cpu", "cuda:7", "relu", "none.yaml", "."]),
    junk.map(lambda data: data.decode(errors="replace").replace("\x00", "0")[:200]),
)
names = st.one_of(st.sampled_from(list(COMMANDS)), texts)
flags = st.sampled_from(
    [
        "--seed",
        "--total-steps",
        "--checkpoint-every",
        "--threads",
        "--environment.id",
        "--environment.num-envs",
        "--environment.device",
        "--environment.options",
        "--root",
        "--agent.gamma",
        "--agent.learning-rate",
        "--agent.batch-size",
        "--agent.policy-layers",
        "--agent.activation",
        "--evaluation.episodes",
        "--evaluation.seed",
        "--evaluation.every",
    ]
)
options = st.one_of(
    st.sampled_from(["rho=27.5", "task=hold", "authority=0.2", "rho=[28, 29]", "width=-1", "rh=1"]),
    st.builds("{}={}".format, st.sampled_from(["rho", "sigma", "near", "width", "task"]), texts),
    texts,
)


def mostly(good: list[str]) -> st.SearchStrategy[str]:
    """What is right, or anything."""
    return st.integers(0, 3).flatmap(lambda n: st.sampled_from(good) if n else texts)


@st.composite
def command_lines(draw: Any) -> list[str]:
    """A command with arguments that may be wrong somewhere; what works is small."""
    match draw(st.integers(0, 6)):
        case 0:
            return [draw(texts), *draw(st.lists(texts, max_size=3))]
        case 1:
            return ["list", *draw(st.lists(mostly(["--json", "Lorenz-v0"]), max_size=2))]
        case 2:
            line = ["control", draw(mostly(["zero", "random", "lqr"]))]
            line += ["--environment", draw(mostly(["Lorenz-v0", "CartPoleSwingUp-v0"]))]
            line += ["--episodes", draw(st.sampled_from(["2", "2", "3", "3", "0", "x", "2.5"]))]
            return [*line, "--option", *draw(st.lists(options, max_size=1))]
        case 3:
            name = draw(mostly([".", "/", "nowhere", "", "/dev/null"]))
            resumed = ["--resume"] if draw(st.booleans()) else []
            return [draw(st.sampled_from(["evaluate", "train"])), *resumed, name]
        case 4:
            # Wrong in any case: nothing is ever recorded, and there are no data to learn from.
            if draw(st.booleans()):
                return ["train", "debug/offline_td3_bc", "--agent.dataset", draw(texts)]
            line = ["collect", draw(mostly(["pendulum", "glucose", "debug/lorenz_ppo", "."]))]
            line += ["--recipes", draw(mostly(["random", "medium", "medium-replay"]))]
            line += ["--format", draw(mostly(["minari", "separatrix"]))]
            return [*line, "--seed", draw(st.sampled_from(["-1", "x", "2.5", str(2**31)]))]
        case _:
            pairs = draw(st.lists(st.tuples(flags, st.one_of(texts, options)), max_size=2))
            line = [part for pair in pairs for part in pair]
            # Wrong in any case: nothing is ever trained.
            return ["train", "debug/lorenz_ppo", *line, "--evaluation.episodes", "1"]


def test_any_command_line(offer: Any, tries: Any) -> None:
    @tries(fast=120, thorough=2_000)
    @given(arguments=command_lines())
    def offered(arguments: list[str]) -> None:
        offer("command", arguments=arguments)

    offered()
