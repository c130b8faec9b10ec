"""Dynamics that offline agents roll out in: learned from the data, or the environment's own."""
