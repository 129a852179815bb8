"""Hypothesis draws the same examples in every run, and a slow machine fails no test."""

from hypothesis import settings

settings.register_profile("tinygen", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("tinygen")
