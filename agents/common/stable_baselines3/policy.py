"""Policies of stable-baselines3 as controllers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gymnasium.spaces import Box
from jaxtyping import Float
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import ConstantSchedule
from torch import Tensor

from separatrix.agents.common.stable_baselines3.algorithm import ALGORITHMS, policy_arguments
from separatrix.agents.common.stable_baselines3.config import ModelFreeConfig
from separatrix.controllers.controller import Controller

if TYPE_CHECKING:
    from separatrix.envs.core.environment import Environment


class PolicyController(Controller):
    """The deterministic action of a policy, without leaving torch."""

    def __init__(self, policy: BasePolicy, environment: "Environment | None" = None) -> None:
        """Wrap a policy, whose parameters may go on changing.

        Args:
            policy: Policy of PPO, SAC or TD3 for actions in [-1, 1], or of PPO for choices.
            environment: Tells a masked policy which choices make sense; None for others.
        """
        self.policy, self._environment = policy, environment

    def act(self, observation: Float[Tensor, "batch observation"], state: Any) -> Tensor:
        """Choose the policy's mean action, clipped to [-1, 1] as in training, or likeliest choice.

        Args:
            observation: What the task shows.
            state: Tells a masked policy which choices make sense.

        Returns:
            Actions.
        """
        seen, arguments = observation.to(self.policy.device), dict[str, Any]()
        if isinstance(self.policy, MaskableActorCriticPolicy):
            assert self._environment is not None
            arguments["action_masks"] = self._environment.allowed_actions(state)
        action = self.policy._predict(seen, deterministic=True, **arguments)
        if not isinstance(self.policy.action_space, Box):
            shape = len(action), *(self.policy.action_space.shape or ())
            return action.to(observation.device).view(shape)
        return action.clamp(-1, 1).to(observation)


def make_policy(
    config: ModelFreeConfig, tensors: Mapping[str, Tensor], environment: "Environment"
) -> PolicyController:
    """Make a policy with given weights.

    Args:
        config: Hyper-parameters of the algorithm.
        tensors: Parameters by name, as the policy's `state_dict` has them.
        environment: Environment it is to act in; gives the spaces and the device.

    Returns:
        A controller with the policy's deterministic actions.

    Raises:
        RuntimeError: If the tensors are those of other networks.
    """
    policy = ALGORITHMS[config.algorithm].policy_aliases["MlpPolicy"](
        environment.observation_space,
        environment.action_space,
        lr_schedule=ConstantSchedule(config.learning_rate),
        **policy_arguments(config),
    )
    policy.load_state_dict(tensors)
    policy.set_training_mode(False)
    # Gradients flow to the observation, should it want any, and not to the networks.
    return PolicyController(policy.requires_grad_(False).to(environment.device), environment)
