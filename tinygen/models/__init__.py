"""One file a model, each to be read on its own."""
