"""What every controller offers."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor


class Controller(ABC):
    """A batched feedback law: it maps observations or states to actions.

    A controller without memory overrides `act` alone; one with memory (a plan, an integrator, a
    random stream for each environment) also overrides `reset`.
    """

    @abstractmethod
    def act(self, observation: Float[Tensor, "batch observation"], state: Any) -> Tensor:
        """Choose the actions of one control interval.

        Args:
            observation: What the task shows, scaled to order one.
            state: The state of the environment, a dataclass of tensors with a leading batch axis.
                A controller that is to run on measurements alone leaves it unread.

        Returns:
            Actions of shape (batch, action), in [-1, 1].
        """

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Forget the past of the environments that start a new episode.

        Args:
            mask: True for the environments that start anew.
        """
        return None
