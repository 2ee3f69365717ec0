"""What is read off a jaxpr."""
