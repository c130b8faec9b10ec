"""Agents: learning algorithms and the runs that train them."""

if __name__ != "separatrix.agents":
    raise ImportError(f"got the import name {__name__!r}; import separatrix.agents instead")
