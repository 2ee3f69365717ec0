"""Equations in SymPy."""
