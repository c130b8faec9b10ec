"""A policy trained by analytic gradients: hyper-parameters, networks, windows, learner."""
