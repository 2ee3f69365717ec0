"""Optax optimizers as equations."""
