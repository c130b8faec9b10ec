"""Model-free baselines: PPO, SAC and TD3 of stable-baselines3."""
