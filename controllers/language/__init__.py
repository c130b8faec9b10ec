"""Searches for prompts that make a language model say a target."""
