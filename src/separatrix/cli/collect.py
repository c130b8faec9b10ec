"""`separatrix collect`: data sets for offline reinforcement learning."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.configuration import ConfigurationError
from separatrix.agents.offline.data.config import (
    DatasetConfig,
    Recipe,
    dataset_names,
    load_dataset_config,
)
from separatrix.cli.errors import UserError, out_of_memory_reported, reported

if TYPE_CHECKING:
    from rich.table import Table

    from separatrix.agents.offline.data.dataset import Dataset

Form = Literal["separatrix", "minari"]


def run(arguments: list[str]) -> int:
    """Run the command, see `separatrix.cli.main.run`."""
    return tyro.cli(
        collect,
        args=arguments,
        prog="separatrix collect",
        description=f"{DESCRIPTION} The names are {', '.join(dataset_names())}.",
    )


DESCRIPTION = (
    "Train policies and record data sets with them, for offline reinforcement learning. Writes "
    "<output>/<name>/<recipe>, and beside it the policies, with which recipes that are asked for "
    "later are made as well. Data sets that exist are left as they are."
)


def collect(
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")],
    output: Path = Path("datasets"),
    recipes: tuple[Recipe, ...] = (),
    format: Form = "separatrix",
    seed: int = 0,
) -> int:
    """Train policies and record data sets with them.

    Args:
        name: Name of a recording of the package, or the path of a .yaml file.
        output: Folder of all data sets.
        recipes: What to record; by default all.
        format: Form of the files; minari is read by Minari, as <name>/<recipe>-v<version>.
        seed: Seed of training and recording.
    """
    with reported(ConfigurationError):
        config = load_dataset_config(name)
    for recipe in recipes:
        if recipe not in config.recipes:
            allowed = f"allowed for {config.agent.algorithm}: {', '.join(config.recipes)}"
            raise UserError(f"got recipe {recipe}; {allowed}")
    ending = f"-v{config.version}" if format == "minari" else ""
    places = {recipe: f"{Path(name).stem}/{recipe}{ending}" for recipe in recipes or config.recipes}
    horizon = _check(config, places, format, seed)
    found = _collect(config, output, places, format, seed)
    from rich.console import Console

    Console().print(_table(found, horizon, f"{config.environment.id}, seed {seed}"))
    return 0


def _check(config: DatasetConfig, places: Mapping[Recipe, str], form: Form, seed: int) -> int:
    """Refuse what would fail after the training; return the steps of an episode."""
    from separatrix.agents.common.seeding import training_seed
    from separatrix.agents.offline.data.minari_files import check_id
    from separatrix.envs.core.registration import make_environment

    environment = config.environment
    with reported(ValueError, ImportError):
        training_seed(seed)
        if form == "minari":
            for place in places.values():
                check_id(place)
        for num_envs in (environment.num_envs, config.recording.num_envs):
            made = make_environment(environment.id, num_envs, **environment.arguments())
    return made.horizon


def _collect(
    config: DatasetConfig, output: Path, places: Mapping[Recipe, str], form: Form, seed: int
) -> dict[Recipe, "Dataset"]:
    """Make the data sets that are missing, and read the others."""
    import torch
    from rich.console import Console

    from separatrix.agents.common.checkpoint import CheckpointError
    from separatrix.agents.offline.data.dataset import Dataset, DatasetError
    from separatrix.agents.offline.data.files import load_dataset, save_dataset
    from separatrix.agents.offline.data.minari_files import save_minari
    from separatrix.agents.offline.data.recipes import Recorder, behaviour_in, check_origin

    torch.set_num_threads(config.threads)
    console, found = Console(), dict[Recipe, Dataset]()
    with reported(DatasetError, CheckpointError, ImportError, OSError), out_of_memory_reported():
        for recipe, place in places.items():
            if (output / place).exists():
                found[recipe] = load_dataset(output / place)
                origin = found[recipe].metadata.origin
                check_origin(output / place, origin, config, seed)
                console.print(f"left {output / place}, which exists", soft_wrap=True)
        missing = {recipe: place for recipe, place in places.items() if recipe not in found}
        if missing:
            folder = (output / next(iter(missing.values()))).parent
            folder.mkdir(parents=True, exist_ok=True)
            recorder = Recorder(config, behaviour_in(folder, config, seed), seed)
        for recipe, place in missing.items():
            found[recipe] = recorder.make(recipe).to("cpu")
            if form == "minari":
                save_minari(found[recipe], output, place)
            else:
                save_dataset(found[recipe], output / place)
            console.print(f"wrote {output / place}", soft_wrap=True)
    return {recipe: found[recipe] for recipe in places}


def _table(datasets: Mapping[Recipe, "Dataset"], horizon: int, title: str) -> "Table":
    from rich.table import Table

    from separatrix.agents.offline.data.collect import whole_episodes

    table = Table(
        title=title,
        caption="mean return of the episodes that the end of the recording did not cut short; "
        "score 0 is random actions, 100 the expert",
    )
    table.add_column("recipe")
    for heading in ("transitions", "episodes", "cut short", "mean return", "score"):
        table.add_column(heading, justify="right")
    for recipe, dataset in datasets.items():
        whole = whole_episodes(dataset, horizon)
        counts = (len(dataset), dataset.episodes, int((~whole).sum()))
        mean, score, references = "-", "-", dataset.metadata.references
        if whole.any():
            returns = dataset.returns[whole]
            mean = f"{returns.mean().item():.4g}"
            if references is not None:
                score = f"{references.score(returns).mean().item():z.1f}"  # no minus 0
        table.add_row(recipe, *map(str, counts), mean, score)
    return table
