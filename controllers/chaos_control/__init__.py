"""Chaos control: small perturbations that hold unstable orbits which are there anyway."""
