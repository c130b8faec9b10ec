"""What environments are made of: equilibria, linear models, Lyapunov exponents, orbits."""
