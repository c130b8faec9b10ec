"""PPO, SAC and TD3 of stable-baselines3 and its masked PPO, made from our hyper-parameters."""

from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Box
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule
from torch import Tensor, nn

from separatrix.agents.common.configuration import ConfigurationError
from separatrix.agents.common.seeding import training_seed
from separatrix.agents.common.stable_baselines3.config import (
    MaskablePPOConfig,
    ModelFreeConfig,
    OffPolicyConfig,
    PPOConfig,
    SACConfig,
    TD3Config,
)
from separatrix.agents.common.stable_baselines3.vec_env import BatchedVecEnv

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "ppo": PPO,
    "maskable_ppo": MaskablePPO,
    "sac": SAC,
    "td3": TD3,
}
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}


class ScaledObservation(BaseFeaturesExtractor):
    """Multiplies the components of the observation by fixed factors."""

    scale: Tensor

    def __init__(self, observation_space: Space, scale: tuple[float, ...]) -> None:
        """Take the factors.

        Args:
            observation_space: The space.
            scale: A factor for each component.

        Raises:
            ValueError: If there are not as many factors as components.
        """
        size = get_flattened_obs_dim(observation_space)
        if len(scale) != size:
            got = f"got {len(scale)} factors"
            raise ValueError(f"observation_scale: {got}; allowed: {size} or none")
        super().__init__(observation_space, size)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, observation: Tensor) -> Tensor:
        """Scale observations (batch, observation)."""
        return observation * self.scale


def make_algorithm(
    config: ModelFreeConfig, env: BatchedVecEnv, seed: int, device: str
) -> BaseAlgorithm:
    """Make an algorithm whose networks and generators are seeded, at step 0.

    Args:
        config: Hyper-parameters.
        env: Training environments; their first reset uses the run's base seed.
        seed: Seed of the run.
        device: Device of the networks.

    Returns:
        The algorithm.

    Raises:
        ConfigurationError: If it is not for actions of this kind.
    """
    continuous = isinstance(env.action_space, Box)
    if isinstance(config, MaskablePPOConfig) if continuous else not isinstance(config, PPOConfig):
        kind, allowed = (
            ("continuous", "ppo, sac, td3") if continuous else ("choices", "ppo, maskable_ppo")
        )
        raise ConfigurationError(
            f"agent.algorithm: got {config.algorithm}, but actions are {kind}; allowed: {allowed}"
        )
    rate = config.learning_rate
    linear = config.learning_rate_schedule == "linear"
    arguments: dict[str, Any] = {
        "learning_rate": LinearSchedule(rate, 0.0, 1.0) if linear else ConstantSchedule(rate),
        "gamma": config.gamma,
        "batch_size": config.batch_size,
        "policy_kwargs": policy_arguments(config),
        "seed": seed,
        "device": device,
    }
    algorithm: BaseAlgorithm
    if isinstance(config, MaskablePPOConfig):
        algorithm = MaskablePPO("MlpPolicy", env, **_ppo(config), **arguments)
    elif isinstance(config, PPOConfig):
        algorithm = PPO("MlpPolicy", env, **_ppo(config), **arguments)
    elif isinstance(config, SACConfig):
        algorithm = SAC("MlpPolicy", env, **_sac(config), **arguments)
    else:
        algorithm = TD3("MlpPolicy", env, **_td3(config, env.action_space), **arguments)
    # The constructor has seeded the environments with the bare seed of the run.
    env.seed(training_seed(seed))
    return algorithm


def policy_arguments(config: ModelFreeConfig) -> dict[str, Any]:
    """Arguments of the policy's constructor that describe its networks."""
    arguments: dict[str, Any] = {"activation_fn": ACTIVATIONS[config.activation]}
    if config.observation_scale:
        arguments["features_extractor_class"] = ScaledObservation
        arguments["features_extractor_kwargs"] = {"scale": config.observation_scale}
    if isinstance(config, PPOConfig):
        arguments["net_arch"] = {"pi": list(config.policy_layers), "vf": list(config.value_layers)}
        if isinstance(config, MaskablePPOConfig):
            return arguments
        return {**arguments, "log_std_init": config.initial_log_std}
    layers = {"pi": list(config.actor_layers), "qf": list(config.critic_layers)}
    return {**arguments, "net_arch": layers}


def _ppo(config: PPOConfig) -> dict[str, Any]:
    return {
        "n_steps": config.rollout_steps,
        "n_epochs": config.epochs,
        "gae_lambda": config.gae_lambda,
        "clip_range": config.clip_range,
        "normalize_advantage": config.normalize_advantage,
        "ent_coef": config.entropy_coefficient,
        "vf_coef": config.value_coefficient,
        "max_grad_norm": config.max_gradient_norm,
        "target_kl": config.target_kl,
    }


def _off_policy(config: OffPolicyConfig) -> dict[str, Any]:
    return {
        "buffer_size": config.buffer_size,
        "learning_starts": config.learning_starts,
        "tau": config.tau,
        "train_freq": config.train_every,
        "gradient_steps": config.gradient_steps,
    }


def _sac(config: SACConfig) -> dict[str, Any]:
    return _off_policy(config) | {
        "ent_coef": config.entropy_coefficient,
        "target_entropy": config.target_entropy,
        "target_update_interval": config.target_update_interval,
    }


def _td3(config: TD3Config, action_space: Space) -> dict[str, Any]:
    sigma = np.full(action_space.shape or (), config.exploration_noise)
    return _off_policy(config) | {
        "action_noise": NormalActionNoise(np.zeros_like(sigma), sigma),
        "policy_delay": config.policy_delay,
        "target_policy_noise": config.target_policy_noise,
        "target_noise_clip": config.target_noise_clip,
    }
