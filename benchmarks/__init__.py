"""The library's figures, against hand-written loops in the same run: `python -m benchmarks [NAME ...]` from the root."""
