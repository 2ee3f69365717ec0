"""What is checked of the arguments of a run before anything is compiled."""
