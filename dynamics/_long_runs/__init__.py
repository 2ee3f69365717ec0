"""Long runs, of which no trajectory is kept: what they are on average, and when they pass a level."""
