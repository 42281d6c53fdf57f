"""Says what a model is, from the headers of its own files."""
