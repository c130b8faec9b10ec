"""The command line of Separatrix."""
