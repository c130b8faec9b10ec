"""Planners: controllers that search over sequences of actions in a model."""
