"""Policies trained by analytic gradients through the environment itself."""
