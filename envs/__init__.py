"""Environments: systems, tasks, and the shells that drive them."""

if __name__ != "separatrix.envs":
    raise ImportError(f"got the import name {__name__!r}; import separatrix.envs instead")
