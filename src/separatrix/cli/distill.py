"""`separatrix distill`: the policy of a SINDy-RL run as a formula."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import tyro
from rich.console import Console

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.catalog import load_policy
from separatrix.agents.common.checkpoint import Checkpoint, CheckpointError
from separatrix.agents.common.configuration import ConfigurationError
from separatrix.agents.common.files import write_whole
from separatrix.agents.common.run import Run
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.sindy_rl.config import SindyRLConfig, SparseModelConfig
from separatrix.agents.sindy_rl.distillation_config import DistillationConfig
from separatrix.cli.errors import UserError, reported
from separatrix.cli.evaluate import episode_seeds
from separatrix.cli.tables import evaluation_table

if TYPE_CHECKING:
    from separatrix.agents.sindy_rl.loop import Loop
    from separatrix.agents.sindy_rl.surrogate import SurrogateEnvironment

DEFAULTS = DistillationConfig()


def run(arguments: list[str]) -> int:
    """Run the command, see `separatrix.cli.main.run`."""
    return tyro.cli(distill_run, args=arguments, prog="separatrix distill")


def distill_run(
    folder: Annotated[Path, tyro.conf.Positional],
    distillation: Annotated[DistillationConfig, tyro.conf.arg(name="")] = DEFAULTS,
    model_degree: int = 3,
    model_threshold: float = 0.003,
    evaluation_episodes: int = 128,
) -> int:
    """Distil the policy of a run into a sparse formula.

    The surrogate of the run gives the data and judges; in the real environment the shortest
    formulas that do well are tried, an episode each, until one does as well as the surrogate said.
    Teacher and formula are evaluated in the end. Writes policy.json, policy.py and policy.c into
    the folder of the run.

    Args:
        folder: Folder of a run of SINDy-RL.
        distillation: Hyper-parameters.
        model_degree: Degree of another model, fitted to all real steps of the run: whichever model
            foretells the teacher's real return better judges, for a policy that is tuned in a poor
            one finds what is wrong with it.
        model_threshold: Threshold of that model.
        evaluation_episodes: Episodes of the evaluation in the real environment.
    """
    from separatrix.agents.sindy_rl.distillation import distill
    from separatrix.controllers.evaluation import evaluate
    from separatrix.envs.core.registration import make_environment

    with reported(FileNotFoundError, ConfigurationError, CheckpointError):
        found = Run.open(folder)
        config = found.config
        checkpoint = found.latest_checkpoint()
    if not isinstance(config.agent, SindyRLConfig):
        raise UserError(f"{folder} is a run of {config.agent.algorithm}; allowed: sindy_rl")
    if checkpoint is None:
        raise UserError(f"{folder} has no checkpoint yet")
    seeds = episode_seeds(config.evaluation.seed, evaluation_episodes)
    torch.set_num_threads(config.threads)
    with reported(CheckpointError, ValueError):
        loop, judge = truest_model(config, checkpoint, model_degree, model_threshold)
        teacher = load_policy(config, checkpoint, loop.environment)
        distilled = distill(
            teacher,
            loop.modelling.make_surrogate(loop.data()),
            judge,
            dataclasses.replace(distillation, names=distillation.names or loop.names),
            project=loop.modelling.project,
            reality=make_environment(config.environment.id, 1, **config.environment.arguments()),
        )
    policy = distilled.policy
    real = make_environment(
        config.environment.id, evaluation_episodes, **config.environment.arguments()
    )
    evaluations = {
        "teacher": evaluate(real, load_policy(config, checkpoint, real), seeds),
        f"formula of {policy.num_terms} terms": evaluate(real, policy, seeds),
    }
    console = Console()
    title = f"{config.environment.id}, {evaluation_episodes} episodes, step {checkpoint.step}"
    console.print(evaluation_table(evaluations, title))
    for line in policy.equations():
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"real steps to choose it: {distilled.real_steps}")
    sources = {"json": policy.to_json(), "py": policy.to_numpy_source(), "c": policy.to_c_source()}
    with reported(OSError):
        for suffix, text in sources.items():
            write_whole(found.folder / f"policy.{suffix}", text.encode())
        report = {
            "terms": policy.num_terms,
            "real_steps": distilled.real_steps,
            "equations": policy.equations(),
            "condition": distilled.conditioning.condition,
            "surrogate_return": {
                "teacher": distilled.teacher_return,
                "student": distilled.student_return,
            },
            "real_return": {name: found.means()["return"] for name, found in evaluations.items()},
            "candidates": [
                [one.policy.num_terms, one.error, one.mean_return] for one in distilled.candidates
            ],
        }
        text = json.dumps(report, indent=1)
        write_whole(found.folder / "distillation.json", f"{text}\n".encode())
    console.print(f"wrote {found.folder / 'policy.json'}, .py and .c", soft_wrap=True)
    return 0


def truest_model(
    config: ExperimentConfig, checkpoint: Checkpoint, degree: int, threshold: float
) -> tuple["Loop", "SurrogateEnvironment"]:
    """Fits the model of a run and a finer one, and chooses.

    Args:
        config: The experiment.
        checkpoint: Its last checkpoint.
        degree: Degree of the finer model.
        threshold: Its threshold.

    Returns:
        The loop whose surrogate, from the starts and over the horizon of the real environment,
        gives the policy that is kept a return nearest to that of its real collection; and that
        surrogate.
    """
    from separatrix.agents.sindy_rl.loop import Loop
    from separatrix.controllers.evaluation import evaluate

    assert isinstance(config.agent, SindyRLConfig)
    models, found = [config.agent.model], []
    if isinstance(models[0], SparseModelConfig) and degree > models[0].degree:
        models.append(dataclasses.replace(models[0], degree=degree, threshold=threshold))
    for model in models:
        agent = dataclasses.replace(config.agent, model=model)
        loop = Loop(dataclasses.replace(config, agent=agent))
        loop.load_state_dict(checkpoint.tensors, checkpoint.state["loop"])
        horizon = loop.environment.horizon
        judge = loop.modelling.make_surrogate(loop.data(), initial_share=1.0, horizon=horizon)
        teacher = load_policy(config, checkpoint, loop.environment)
        foretold = evaluate(judge, teacher, torch.arange(8)).returns.mean().item()
        real = max(member.best_return for member in loop.members)
        found.append((abs(foretold - real), loop, judge))
    _, loop, judge = min(found, key=lambda one: one[0])
    return loop, judge
