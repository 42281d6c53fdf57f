"""Shows the engines: what is installed, what can be had, and the work on them while it runs."""
