"""Decides how a verb speaks: its value as text or JSON on stdout, its refusal as a sentence on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, NoReturn

import typer

from app.core.errors import EngineRoomError
from app.core.snapshot import to_json
from app.outcomes import Cancelled

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]


def spoken(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Every refusal is a sentence on stderr and an exit code that tells its kind; no trace reaches a person."""

    @wraps(verb)
    def said(*args: Any, **kwargs: Any) -> Any:
        try:
            return verb(*args, **kwargs)
        except (typer.BadParameter, typer.Exit, typer.Abort):
            raise
        except EngineRoomError as error:
            leave(error, kwargs)
        except KeyboardInterrupt:
            leave(Cancelled("Cancelled."), kwargs)
        except BrokenPipeError:  # the reader of a pipe has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        except Exception as error:
            if os.environ.get("ENGINE_ROOM_TRACE"):
                raise
            leave(
                EngineRoomError(
                    f"Engine Room made a mistake in this command: {type(error).__name__}: {error}.",
                    "ENGINE_ROOM_TRACE=1 shows where.",
                ),
                kwargs,
            )

    return said


def leave(error: EngineRoomError, arguments: Mapping[str, object]) -> NoReturn:
    if arguments.get("as_json"):
        print(to_json(error.report()).decode(), flush=True)
    print(f"engine-room: {error}", file=sys.stderr)
    raise SystemExit(error.exit_code) from None


def show(value: object, text: str, as_json: bool) -> None:
    print(to_json(value).decode() if as_json else text)


def gib(count: int | None) -> str:
    return "—" if count is None else f"{count / 1024**3:.1f} GiB"
