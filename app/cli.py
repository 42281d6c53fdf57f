"""Decides what each verb of `engine-room` does; each is one control call. Without a verb it opens the window."""

from __future__ import annotations

import sys

WINDOW_FLAGS = {"--smoke"}


def main() -> None:
    """The window's way first: it must not pay for the command line's imports."""
    words = sys.argv[1:]
    if not words or words[0] in WINDOW_FLAGS:
        from app.ui.application import run_window
        from app.wiring import real_paths

        if words and words[0] == "--smoke":
            from app.smoke import run_smoke

            sys.exit(run_smoke(real_paths(), words[1:]))
        sys.exit(run_window(real_paths()))
    from app.verbs import app

    app(prog_name="engine-room")
