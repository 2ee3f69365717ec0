"""Diffrax's own solvers of stochastic differential equations, passed through."""
