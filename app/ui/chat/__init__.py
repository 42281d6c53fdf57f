"""Holds the chat pane: its store, its transcript and its composer."""
