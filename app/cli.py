"""Decides what each verb of `engine-room` does; each is one control call. Without a verb it opens the window."""

from __future__ import annotations

import sys


def main() -> None:
    """The window's way first: it must not pay for the command line's imports."""
    words = sys.argv[1:]
    if not words:
        from app.ui.application import default_paths, run

        sys.exit(run(default_paths()))
    if words[0] == "--smoke":
        from app.smoke import run_smoke

        sys.exit(run_smoke(words[1:]))
    try:
        from app.verbs import app

        for stream in (sys.stdout, sys.stderr):  # a terminal that knows no "✓" gets a "?" instead of an error
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        app(prog_name="engine-room")
    except KeyboardInterrupt:  # before a verb could say it better
        sys.exit(130)
