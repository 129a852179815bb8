"""How fast tinygen is, beside others doing the same work: `python -m benchmarks --help`."""
