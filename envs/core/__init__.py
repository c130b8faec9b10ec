"""Systems, tasks, environments and their shells, random streams, registration."""
