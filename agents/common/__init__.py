"""What agents share: run folders, checkpoints, vectorised adapters."""
