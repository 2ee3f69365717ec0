"""Which model of training holds where."""
