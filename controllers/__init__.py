"""Controllers: feedback laws and planners that map observations or states to actions."""

if __name__ != "separatrix.controllers":
    raise ImportError(f"got the import name {__name__!r}; import separatrix.controllers instead")
