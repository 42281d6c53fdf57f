"""Puts the simulated driver where the real library would be loaded: `ctypes.CDLL("libnvidia-ml.so.1")`, and nowhere else.

Python imports this at start because its folder is on PYTHONPATH; without ENGINE_ROOM_TEST_DRIVER it does nothing.
No module of the program under test and no function of pynvml is changed.
"""
# Starts inside other programs, so it imports only what they load anyway:
# ruff: noqa: PTH100, PTH118, PTH120

import os

FOLDER = os.environ.get("ENGINE_ROOM_TEST_DRIVER")

if FOLDER:
    import ctypes
    import importlib.util

    def _load(name):
        path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), f"{name}.py")
        spec = importlib.util.spec_from_file_location(f"simulated_nvidia_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    _opened = []

    def _open(cls, name=None, *arguments, **options):
        """CDLL's constructor: an object of another class is returned as it is, so CDLL's own __init__ is not run."""
        if name != "libnvidia-ml.so.1":
            return object.__new__(cls)
        if not _opened:
            state = _load("state").State(FOLDER)
            if state.config().get("absent"):
                raise OSError("libnvidia-ml.so.1: cannot open shared object file: No such file or directory")
            _opened.append(_load("library").Library(state))
        return _opened[0]

    ctypes.CDLL.__new__ = _open
