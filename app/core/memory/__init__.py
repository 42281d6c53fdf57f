"""Predicts what a load needs in memory and says whether it may start."""
