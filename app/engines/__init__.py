"""Holds what makes one engine family different: command, readiness, stages, failure patterns, counters; pure."""
