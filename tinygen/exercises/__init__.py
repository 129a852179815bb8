"""Exercises: write the body of a function of tinygen again, and have it checked.

`python -m tinygen exercise` lists them, `python -m tinygen exercise softmax` writes a file,
`python -m tinygen check softmax.py` grades it. docs/exercises.md says how to use them and how to add one.

The files, from the bottom: `exercise` (what an exercise is), `source` (a function's text, taken apart),
`difference` (two results, in words), `grade`, `record` (what is done), `chapters/` (the exercises),
`command`, `check`.
"""
