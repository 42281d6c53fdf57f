"""Shows the hub of models: what a search found, the forms of one with their verdicts, downloads, and what is on this disk."""
