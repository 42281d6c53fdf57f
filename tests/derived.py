"""Derives the parts of ARCHITECTURE.md that come from the code; run it to bring them up to date."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
DOCUMENT = TOP / "ARCHITECTURE.md"
SETTINGS_DOCUMENT = TOP / "packaging" / "settings.md"


def tree() -> str:
    """Every module of `app` with the sentence that it opens with."""
    rows = ["```"]
    for folder in sorted({path.parent for path in (TOP / "app").rglob("*.py")}):
        rows.append(f"{folder.relative_to(TOP)}/")
        for module in sorted(folder.glob("*.py")):
            sentence = (ast.get_docstring(ast.parse(module.read_text("utf-8"))) or "").split("\n")[0]
            rows.append(f"  {module.name:<24} {sentence}".rstrip())
    return "\n".join([*rows, "```"])


def picture() -> str:
    from app.core.diagram import diagram

    return f"```mermaid\n{diagram()}\n```"


def document(text: str) -> str:
    """`text` with its derived parts made anew."""
    for name, made in (("tree", tree()), ("diagram", picture())):
        begin = f"<!-- {name}:begin (derived: python -m tests.derived) -->"
        end = f"<!-- {name}:end -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{made}\n{end}{after}"
    return text


def settings_document() -> str:
    """What each engine can be told, from the engines' tables."""
    from app.core.settings_table import as_document
    from app.engines.registry import options_view

    return as_document(options_view())


if __name__ == "__main__":
    SETTINGS_DOCUMENT.write_text(settings_document(), "utf-8")
    DOCUMENT.write_text(document(DOCUMENT.read_text("utf-8")), "utf-8")
    sys.exit(0)
