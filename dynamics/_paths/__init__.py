"""One path from record to record: grid, noise, terms and solvers."""
