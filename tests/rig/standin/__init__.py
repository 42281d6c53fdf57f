"""Holds the parts of the stand-in engine; `fake_engine.py` beside this folder is the program."""
