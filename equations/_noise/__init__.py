"""Gradient noise and its models."""
