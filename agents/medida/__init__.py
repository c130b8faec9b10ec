"""MEDIDA: which terms a model lacks or has wrong, from pairs of observations.

R. Mojgani, A. Chattopadhyay and P. Hassanzadeh, "Discovery of interpretable structural model errors
by combining Bayesian sparse regression and data assimilation", Chaos 32 (2022) 061105,
arXiv:2110.00546.
"""
