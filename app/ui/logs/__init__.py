"""Holds the log viewer: the spool that follows a run's log, and the view that paints only what is visible."""
