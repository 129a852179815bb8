"""Benchmarks: tinygen compared with other libraries that do the same work: `python -m benchmarks --help`."""
