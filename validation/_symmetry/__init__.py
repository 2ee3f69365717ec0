"""Symmetries of a loss, and what training makes of them."""
