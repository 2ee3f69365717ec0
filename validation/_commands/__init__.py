"""The command `traindyn` and its reports."""
