"""Edits a profile: as a form made from the engine's settings table, as text, and as the command that it becomes."""
