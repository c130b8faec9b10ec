"""stable-baselines3 over our environments: adapter, configurations, complete snapshots."""
