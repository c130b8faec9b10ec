"""Tables of the agents' hyper-parameters, from the dataclasses that define them."""

import ast
import inspect
from dataclasses import MISSING, fields

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.stable_baselines3.config import PPOConfig, SACConfig, TD3Config
from separatrix.agents.group_relative.config import GroupRelativeConfig
from separatrix.agents.hypercrl.config import (
    CoresetConfig,
    ElasticWeightsConfig,
    HyperCRLConfig,
    HypernetworkConfig,
    PlannerConfig,
    SynapticIntelligenceConfig,
)
from separatrix.agents.offline.config import (
    BehaviourCloningConfig,
    ComboConfig,
    ConservativeConfig,
    DiverseCriticsConfig,
    ImplicitQLearningConfig,
    MobileConfig,
    MopoConfig,
    OfflineConfig,
    RavlConfig,
    TD3BehaviourCloningConfig,
)
from separatrix.agents.offline.model_config import (
    DynamicsRewardConfig,
    FilterConfig,
    ModelConfig,
    RolloutsConfig,
)
from separatrix.agents.sindy_rl.config import (
    CollectionConfig,
    NeuralModelConfig,
    PopulationConfig,
    SindyRLConfig,
    SparseModelConfig,
    SurrogateConfig,
    UncertaintyConfig,
)
from separatrix.agents.sindy_rl.distillation_config import DistillationConfig


def tables() -> dict[str, str]:
    """Returns a Markdown table for each agent, by the name of its block."""
    configs = {
        "ppo": PPOConfig,
        "sac": SACConfig,
        "td3": TD3Config,
        "sindy_rl": SindyRLConfig,
        "sparse model": SparseModelConfig,
        "neural model": NeuralModelConfig,
        "surrogate": SurrogateConfig,
        "uncertainty": UncertaintyConfig,
        "collection": CollectionConfig,
        "population": PopulationConfig,
        "analytic": AnalyticPolicyConfig,
        "distillation": DistillationConfig,
        "hypercrl": HyperCRLConfig,
        "hypernetwork": HypernetworkConfig,
        "coreset": CoresetConfig,
        "ewc": ElasticWeightsConfig,
        "si": SynapticIntelligenceConfig,
        "planner": PlannerConfig,
        "offline": OfflineConfig,
        "behaviour_cloning": BehaviourCloningConfig,
        "td3_bc": TD3BehaviourCloningConfig,
        "iql": ImplicitQLearningConfig,
        "cql": ConservativeConfig,
        "edac": DiverseCriticsConfig,
        "mopo": MopoConfig,
        "mobile": MobileConfig,
        "combo": ComboConfig,
        "ravl": RavlConfig,
        "model": ModelConfig,
        "rollouts": RolloutsConfig,
        "filter": FilterConfig,
        "dynamics reward": DynamicsRewardConfig,
        "group_relative": GroupRelativeConfig,
    }
    return {f"{name} hyper-parameters": table(config) for name, config in configs.items()}


def table(config: type) -> str:
    """Lists the fields of a dataclass with their defaults and docstrings.

    Args:
        config: A dataclass, whose fields may be those of its bases.
    """
    documented = {}
    for base in reversed(config.__mro__[:-1]):
        documented.update(field_docstrings(base))
    lines = ["| name | default | meaning |", "| --- | --- | --- |"]
    for field in fields(config):
        if field.name in ("algorithm", "kind"):
            continue
        default = "" if field.default is MISSING else f"`{field.default}`"
        if field.default_factory is not MISSING:
            default = f"`{type(field.default_factory()).__name__}`"
        meaning = " ".join(documented[field.name].split()).replace("|", r"\|")
        lines.append(f"| `{field.name}` | {default} | {meaning} |")
    return "\n".join(lines)


def field_docstrings(config: type) -> dict[str, str]:
    """Reads the string below each field of a class."""
    definition = ast.parse(inspect.cleandoc(inspect.getsource(config))).body[0]
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            found[field.target.id] = str(below.value.value)
    return found
