"""Holds the window's pages, one module each."""
