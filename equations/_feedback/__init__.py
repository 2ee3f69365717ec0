"""Learning by feedback weights."""
