"""Equations that are wrong in one thing. A file is called as the module of the equation that its mutants are made from."""
