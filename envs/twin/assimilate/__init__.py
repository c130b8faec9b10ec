"""Data assimilation: ensembles of states, and parameters, that follow observations."""
