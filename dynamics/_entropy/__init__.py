"""Stationary states and entropy production."""
