"""Learning signals: losses, penalties on them, and Hebbian rules."""
