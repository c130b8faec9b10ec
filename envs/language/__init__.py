"""Language models as dynamical systems. Importing the package registers the environments."""

from separatrix.envs.language import prompt_dialogue, prompt_edit, prompt_token, soft_prompt

__all__ = ["prompt_dialogue", "prompt_edit", "prompt_token", "soft_prompt"]
