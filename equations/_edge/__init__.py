"""Equations that hold at the edge of stability, and what tells where it is."""
