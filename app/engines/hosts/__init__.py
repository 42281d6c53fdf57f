"""Programs that host an engine in a process of their own; each is a script, never imported."""
