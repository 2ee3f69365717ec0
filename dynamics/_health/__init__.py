"""What is checked of every run: stable steps, small noise, paths that fail."""
