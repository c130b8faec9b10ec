"""Hyper-parameters of continual model-based reinforcement learning, HyperCRL and its baselines.

Y. Huang, K. Xie, H. Bharadhwaj and F. Shkurti, "Continual model-based reinforcement learning with
hypernetworks", ICRA 2021, arXiv:2009.11997. Defaults are those of the paper's pusher; a deviation
says so.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator

from separatrix.agents.common.requirements import (
    require,
    require_at_least_0,
    require_positive,
)

Encoding = Literal["raw", "constant_norm"]
"""How a task embedding enters a hypernetwork: as it is, or as cosine and sine, of the same norm for
all tasks (J. J. Gonzalez Ortiz et al., ICLR 2024, magnitude-invariant parametrization)."""

BaseWeights = Literal["none", "frozen", "learned"]
"""Weights to which a hypernetwork adds: none, or those of a network of its own, learned with the
first task only or with every one."""

Initialization = Literal["xavier", "hyperfan", "fan_out"]
"""Start of the last layer of a hypernetwork: Xavier's of each generated tensor, as in the paper;
such that generated weights have the variance of a network's own start (O. Chang et al., ICLR 2020);
or Kaiming's by the number of generated weights, small, to be added to base weights."""


@dataclass(frozen=True)
class HypernetworkConfig:
    """HyperCRL: a hypernetwork generates the dynamics network of each task from its embedding."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["hypernetwork"] = "hypernetwork"
    """The method these hyper-parameters belong to."""

    embedding_size: int = 10
    """Components of a task embedding."""

    layers: tuple[int, ...] = (50, 50)
    """Hidden units of each layer of the hypernetwork."""

    chunk_size: int = 0
    """Weights that are generated at a time, each chunk from an embedding of its own; 0 generates
    all at once."""

    chunk_embedding_size: int = 20
    """Components of the embedding of a chunk."""

    learning_rate: float = 1e-4
    """Learning rate of both Adams, that of the hypernetwork and that of the embedding."""

    beta: float = 0.05
    """Weight of the output regulariser: the squared change of the generated weights of earlier
    tasks, summed over the weights and averaged over these tasks. The loss it stands beside is a
    mean over transitions and components."""

    regularized_tasks: int = 0
    """Earlier tasks in the regulariser of a gradient step, drawn anew for each; 0 takes all (S.
    Auddy et al., arXiv:2311.03600, take 1)."""

    look_ahead: bool = False
    """Whether the regulariser sees the hypernetwork after the step that the task's loss alone would
    take. The paper's does; it costs a third of a step and changed little."""

    plastic_embeddings: bool = False
    """Whether the embeddings of earlier tasks go on learning, by the regulariser. The paper's
    chunked variant does so."""

    encoding: Encoding = "raw"
    """How the embedding enters the hypernetwork."""

    base_weights: BaseWeights = "none"
    """Weights to which the hypernetwork adds."""

    initialization: Initialization = "xavier"
    """Start of the hypernetwork's last layer."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "embedding_size", "layers", "chunk_embedding_size", "learning_rate")
        require(len(self.layers) > 0, "layers", self.layers, "one or more")
        require_at_least_0(self, "chunk_size", "beta", "regularized_tasks")


@dataclass(frozen=True)
class SingleConfig:
    """A network of its own for each task, which starts anew."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["single"] = "single"
    """The method these hyper-parameters belong to."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "learning_rate")


@dataclass(frozen=True)
class FinetuneConfig:
    """One network that goes on learning from task to task."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["finetune"] = "finetune"
    """The method these hyper-parameters belong to."""

    heads: bool = True
    """Whether each task has a last layer of its own, as in the paper."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "learning_rate")


@dataclass(frozen=True)
class ElasticWeightsConfig:
    """EWC: weights that mattered for earlier tasks are held (J. Kirkpatrick et al., PNAS 2017)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["ewc"] = "ewc"
    """The method these hyper-parameters belong to."""

    strength: float = 1e4
    """Weight of the penalty, whose importances are the diagonal of the empirical Fisher matrix."""

    heads: bool = True
    """Whether each task has a last layer of its own, as in the paper; these are not held."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "strength", "learning_rate")


@dataclass(frozen=True)
class SynapticIntelligenceConfig:
    """SI: weights whose change lowered earlier losses are held (F. Zenke et al., ICML 2017)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["si"] = "si"
    """The method these hyper-parameters belong to."""

    strength: float = 0.1
    """Weight of the penalty."""

    damping: float = 1e-3
    """Added to the squared change of a weight, by which its importance is divided."""

    heads: bool = True
    """Whether each task has a last layer of its own, as in the paper; these are not held."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "strength", "damping", "learning_rate")


@dataclass(frozen=True)
class CoresetConfig:
    """Rehearsal: some transitions of each earlier task are kept and learned from again."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["coreset"] = "coreset"
    """The method these hyper-parameters belong to."""

    transitions: int = 100
    """Transitions that are kept of each task, drawn at random; 0 keeps all, which makes it the
    multitask oracle."""

    heads: bool = True
    """Whether each task has a last layer of its own, as in the paper."""

    context: bool = False
    """Whether the network is told the true physical parameters of the task, as further inputs."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "learning_rate")
        require_at_least_0(self, "transitions")


MethodConfig = (
    HypernetworkConfig
    | SingleConfig
    | FinetuneConfig
    | ElasticWeightsConfig
    | SynapticIntelligenceConfig
    | CoresetConfig
)
"""How a learner deals with one task after the other."""


@dataclass(frozen=True)
class PlannerConfig:
    """The planner that acts, and is evaluated, in the learned model."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["cem", "icem"] = "cem"
    """The cross-entropy method, as in the paper, or the improved one, which needs fewer samples."""

    horizon: int = 20
    """Steps of a plan."""

    population: int = 500
    """Sequences in the first iteration."""

    elites: int = 40
    """Best sequences to fit."""

    iterations: int = 5
    """Populations of a plan."""

    standard_deviation: float = 1.0
    """Of the first population."""

    noise_exponent: float = 0.0
    """Colour of the noise of "icem"; 0 is white."""

    warm_start: bool = False
    """Whether a plan begins with the last one. The paper's does not."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "horizon", "population", "elites", "iterations")
        require_positive(self, "standard_deviation")
        require_at_least_0(self, "noise_exponent")
        most = self.population // (2 if self.kind == "icem" else 1)
        require(self.elites <= most, "elites", self.elites, f"at most {most} of this population")


@dataclass(frozen=True)
class HyperCRLConfig:
    """Continual model-based reinforcement learning over the tasks of a stream.

    `total_steps` of the experiment are shared out evenly over the tasks. Of each task the first
    steps are random; then, in turns, the model of the task is trained on all of its data and acts.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    algorithm: Literal["hypercrl"] = "hypercrl"
    """The algorithm these hyper-parameters belong to."""

    method: Annotated[MethodConfig, Discriminator("kind")] = field(
        default_factory=HypernetworkConfig
    )
    """What learns: `kind` is hypernetwork, single, finetune, ewc, si or coreset."""

    tasks: int = 5
    """How many tasks of the stream, from its first one on."""

    random_steps: int = 2000
    """Random steps at the start of each task."""

    random_hold: int = 1
    """Steps for which a random action is held."""

    session_steps: int = 200
    """Steps that the model acts between two trainings."""

    gradient_steps: int = 2000
    """Gradient steps of a training."""

    batch_size: int = 100
    """Transitions of a gradient step, for each member and each task in it."""

    layers: tuple[int, ...] = (200, 200)
    """Hidden units of each layer of a dynamics network."""

    members: int = 1
    """Dynamics networks of each task, whose mean is predicted; they share the hypernetwork but for
    its last layer. The paper has one."""

    gaussian: bool = False
    """Whether the networks predict variances as well. The paper's do for the door and the cheetah;
    its planner, as ours, uses the means alone."""

    reward: Literal["known", "learned"] = "known"
    """Whether the planner is told rewards and ends of episodes as functions of observations, as in
    the paper, or a model of the reward is learned with the dynamics and nothing terminates."""

    normalizers: Literal["per_task", "first_task"] = "per_task"
    """Whether inputs and targets are normalised by the data of each task, or by those of the first.
    The paper does not normalise targets, which small changes of state suffer from."""

    max_gradient_norm: float = 5.0
    """Gradients are scaled down to this norm."""

    boundaries: Literal["told", "detected"] = "told"
    """Whether the learner is told that a new task begins, or detects it by its model's errors."""

    evaluation_tasks: Literal["told", "inferred"] = "told"
    """Whether evaluations, and the policy of a checkpoint, are told the task of an environment, or
    infer it from the errors of all tasks' models."""

    planner: PlannerConfig = PlannerConfig()
    """The planner."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "tasks", "random_steps", "random_hold", "session_steps")
        require_positive(self, "gradient_steps", "batch_size", "layers", "members")
        require_positive(self, "max_gradient_norm")
        told = isinstance(self.method, CoresetConfig) and self.method.context
        if told and self.boundaries == "detected":
            raise ValueError(
                "boundaries: got 'detected' for a network that is told the parameters of its task; "
                "allowed: 'told'"
            )
