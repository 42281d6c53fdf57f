"""The form of a profile: the rows of its engine's settings table by group, and what every profile has beside them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.core.options import Option, OptionKind, Preset
from app.core.profiles import SAMPLING_OPTIONS
from app.ui.engines import words as engine_words
from app.ui.profiles.draft import Draft
from app.ui.profiles.fields import ChoiceRow, LinesRow, Row, SwitchRow, TextRow, row_of
from app.ui.store import Store
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button, SearchField, Segments
from app.ui.widgets.layout import Card, Line, clear, row
from app.ui.widgets.text import Label


def _text(name: str, title: str, sentence: str, **more: object) -> Option:
    return Option(name=name, kind=OptionKind.TEXT, title=title, sentence=sentence, **more)  # type: ignore[arg-type]


TITLE = _text("title", "Name", "How the profile is called in lists.")
DESCRIPTION = _text("description", "Description", "What it is good for.")
MODEL = Option(
    name="model",
    kind=OptionKind.PATH,
    title="Model",
    sentence="A GGUF file, a folder with a Hugging Face model, or the name that Ollama or a remote endpoint has for it.",
)
ENGINE = _text("engine", "Engine", "Which program runs the model.")
INSTALLATION = _text(
    "installation", "Version of the engine", "Which installed one; the Engines page says which is used else."
)
SEAT = _text(
    "seat",
    "Seat",
    "Where it is loaded. On another seat it runs beside the first model, where both fit; Settings names the seats.",
)
FALLBACK = _text("fallback", "Fallback", "Another profile that is loaded when this one cannot be.")
ALIASES = _text("aliases", "Other names", "Names under which programs may ask for it, one a line.")
AT_START = _text("load_at_start", "Load at start", "Load it as soon as Engine Room starts.")
KEEP = _text("keep_loaded", "Keep loaded", "Never unload it for being idle, and never for another program’s request.")
IDLE = _text("idle_unload_seconds", "Unload when idle", "Free the memory when nobody has asked anything for so long.")
SYSTEM = _text("system_prompt", "System prompt", "What the model is told before each conversation.")
EXTRA = _text(
    "extra_arguments", "Extra arguments", "Handed to the engine as they are, one a line.", unit="--some-flag\nvalue"
)
ENVIRONMENT = _text(
    "environment", "Environment", "Variables for the engine, NAME=value, one a line.", unit="CUDA_VISIBLE_DEVICES=0"
)
CARDS = _text("gpus", "Graphics cards", "Which cards it may use, by UUID, one a line; none means all.")
IDLE_CHOICES = {300: "5 minutes", 900: "15 minutes", 1800: "30 minutes", 3600: "1 hour", 0: "Never"}


class Form(QWidget):
    """Shows a draft and writes into it; rows are made for whatever the settings table holds."""

    grown = Signal()  # more rows are there
    tuned = Signal(object)  # a Preset or None

    def __init__(self, theme: Theme, store: Store, draft: Draft) -> None:
        super().__init__()
        self._theme, self._store, self._draft = theme, store, draft
        self._rows: dict[str, Row] = {}
        self._tables: list[tuple[Card, list[Row], list[QWidget]]] = []
        self._family: object = None
        self.search = SearchField(theme, "Find a setting", "Find a setting")
        self.search.setFixedWidth(240)
        self.search.textChanged.connect(self._filter)
        self._none = Label(theme, "", "body", "muted")
        self._none.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(Space.large)
        self._presets = row(spacing=Space.small)
        tools = row(spacing=Space.small)
        tools.addLayout(self._presets, 1)
        tools.addWidget(self.search)
        column.addLayout(tools)
        column.addWidget(self._none)
        self._before, self._settings, self._after = QVBoxLayout(), QVBoxLayout(), QVBoxLayout()
        for part in (self._before, self._settings, self._after):
            part.setSpacing(Space.large)
            column.addLayout(part)
        self._build_first()
        draft.changed.connect(self.refresh)
        store.engines_changed.connect(self._show_choices)
        self.refresh()

    # --- building ----------------------------------------------------------------------------------------------------

    def _build_first(self) -> None:
        theme = self._theme
        first = self._card("Profile", "", self._before)
        self._engine_row = ChoiceRow(theme, "engine", ENGINE, self._engine_titles(), "Choose one")
        self._installation_row = ChoiceRow(theme, "installation", INSTALLATION, {"": ""}, "")
        for made in (TextRow(theme, "title", TITLE), TextRow(theme, "description", DESCRIPTION)):
            self._add(first, made)
        for made in (TextRow(theme, "model", MODEL), self._engine_row, self._installation_row):
            self._add(first, made)
        # What lies below the window's edge comes when the first part has been painted.
        self._later = QTimer(self, singleShot=True, interval=0)
        self._later.timeout.connect(self._build_rest)
        self._later.start()

    def _build_rest(self) -> None:
        theme = self._theme
        comfort = self._card("Loading", "When it comes and when it goes.", self._after)
        idle = ChoiceRow(theme, "idle_unload_seconds", IDLE, IDLE_CHOICES, "As in Settings")  # type: ignore[arg-type]
        for made in (SwitchRow(theme, "load_at_start", AT_START), SwitchRow(theme, "keep_loaded", KEEP), idle):
            self._add(comfort, made)
        self._seat_row = ChoiceRow(theme, "seat", SEAT, self._seats(), "The first one")
        self._fallback_row = ChoiceRow(theme, "fallback", FALLBACK, self._others(), "None")
        self._add(comfort, self._seat_row)
        self._add(comfort, self._fallback_row)
        chat = self._card("Chat defaults", "What a new conversation starts from.", self._after)
        self._add(chat, LinesRow(theme, "system_prompt", SYSTEM, prose=True))
        for option in SAMPLING_OPTIONS:
            self._add(chat, row_of(theme, f"sampling.{option.name}", option))
        free = self._card("Names and extras", "", self._after)
        self._add(free, LinesRow(theme, "aliases", ALIASES))
        here = self._store.gpus.gpus
        if len(here) > 1 or self._draft.value("gpus"):
            cards = ", ".join(f"{card.uuid} ({card.name})" for card in here)
            known = f"{CARDS.sentence} Here: {cards}." if here else CARDS.sentence
            self._add(free, LinesRow(theme, "gpus", msgspec.structs.replace(CARDS, sentence=known)))
        self._add(free, LinesRow(theme, "extra_arguments", EXTRA))
        self._add(free, LinesRow(theme, "environment", ENVIRONMENT, table=True))
        for _, rows, _ in (comfort, chat, free):
            for made in rows:
                self._show_row(made)
        self.grown.emit()

    def _card(self, title: str, sentence: str, where: QVBoxLayout) -> tuple[Card, list[Row], list[QWidget]]:
        card = Card(spacing=0)
        card.column.addWidget(Label(self._theme, title, "title"))
        if sentence:
            card.column.addWidget(Label(self._theme, sentence, "small", "muted", wrap=True))
        card.column.addSpacing(Space.small)
        where.addWidget(card)
        self._tables.append((card, [], []))
        return self._tables[-1]

    def _add(self, table: tuple[Card, list[Row], list[QWidget]], made: Row, where: QVBoxLayout | None = None) -> None:
        column = where or table[0].column
        line = Line()
        if where is not None or table[1]:
            column.addWidget(line)
            table[2].append(line)
        column.addWidget(made)
        table[1].append(made)
        self._rows[made.key] = made
        made.changed.connect(self._draft.set)

    def _rebuild_settings(self, options: Sequence[Option]) -> None:
        for card, rows, _ in [table for table in self._tables if any(r.key.startswith("settings.") for r in table[1])]:
            self._tables = [table for table in self._tables if table[0] is not card]
            for old in rows:
                self._rows.pop(old.key, None)
        clear(self._settings)
        groups: dict[str, list[Option]] = {}
        for option in options:
            groups.setdefault(option.group or "Settings", []).append(option)
        for group, members in groups.items():
            table = self._card(group, "", self._settings)
            for option in members:
                if not option.advanced:
                    self._add(table, row_of(self._theme, f"settings.{option.name}", option))
            advanced = [option for option in members if option.advanced]
            if advanced:
                self._fold(table, group, advanced)
        self._show_presets(self._draft.options.presets.get(self._draft.engine, ()))

    def _fold(self, table: tuple[Card, list[Row], list[QWidget]], group: str, advanced: list[Option]) -> None:
        """The rest of a group: its rows are made when it is first opened, or when one of them has a value."""
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        words = f"{len(advanced)} more"
        button = Button(self._theme, words, "quiet", "chevron-down", f"Show {words}: {group}")
        table[0].column.addLayout(row(button, None))
        table[0].column.addWidget(inside)
        inside.hide()

        def make() -> None:
            if column.count() == 0:
                for option in advanced:
                    made = row_of(self._theme, f"settings.{option.name}", option)
                    self._add(table, made, column)
                    self._show_row(made)

        def toggle() -> None:
            make()
            inside.setVisible(inside.isHidden())
            button.shape(words, "quiet", "chevron-down" if inside.isHidden() else "chevron-up", button.accessibleName())

        button.clicked.connect(toggle)
        if any(f"settings.{option.name}" in self._draft.problems for option in advanced) or any(
            self._draft.value(f"settings.{option.name}") is not None for option in advanced
        ):
            toggle()
        self._unfold.append((inside, make, advanced))

    _unfold: list[tuple[QWidget, object, list[Option]]]

    def _show_presets(self, presets: Sequence[Preset]) -> None:
        clear(self._presets)
        if presets:
            choices = (("", "Neither", ""), *((preset.name, preset.title, "") for preset in presets))
            self._presets.addWidget(Label(self._theme, "Tune for", "small", "muted"))
            chooser = Segments(self._theme, "Tune for", choices, str(self._draft.value("preset") or ""))
            chooser.chosen.connect(self._tune)
            self._presets.addWidget(chooser)
        self._presets.addStretch(1)

    def _tune(self, name: str) -> None:
        self._draft.set("preset", name or None)
        found = (one for one in self._draft.options.presets.get(self._draft.engine, ()) if one.name == name)
        self.tuned.emit(next(found, None))

    # --- showing -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        options = tuple(self._draft.rows())
        if options != self._family:
            self._family = options
            self._unfold = []
            self._rebuild_settings(options)
        self.setEnabled(self._draft.is_readable)
        self._show_choices()
        for made in self._rows.values():
            self._show_row(made)
        if self.search.text():
            self._filter()

    def _show_row(self, made: Row) -> None:
        table, _, name = made.key.partition(".")
        if table == "settings":
            made.show_default(self._draft.preset.get(name))
        made.show_value(self._draft.value(made.key))
        problems = self._draft.problems
        own = (sentence for key, sentence in problems.items() if key == made.key or key.startswith(made.key + "["))
        inside = (
            sentence for key, sentence in problems.items() if key.startswith(made.key + ".") and "." not in made.key
        )
        made.show_wrong(next(own, "") or next(inside, ""))

    def shown_problems(self) -> set[str]:
        """The keys whose problems stand at a field."""
        return {
            key
            for key in self._draft.problems
            if key.split("[")[0] in self._rows or key.partition(".")[0] in self._rows
        }

    def _show_choices(self) -> None:
        family = next((f for f in self._store.engines.families if f.family == self._draft.engine), None)
        choices = {one.id: _short(one) for one in family.installations} if family is not None else {}
        used = engine_words.chosen(family) if family is not None else None
        self._installation_row.set_choices(
            choices, f"In use: {engine_words.version(used)}" if used else "The one in use"
        )
        self._engine_row.set_choices(self._engine_titles(), "Choose one")
        for key in ("installation", "engine"):
            self._show_row(self._rows[key])

    def _engine_titles(self) -> dict[str, str]:
        titles = self._draft.options.titles
        return {family: titles.get(family) or family for family in self._draft.options.families}

    def _seats(self) -> dict[str, str]:
        return {seat.name: seat.name for seat in self._store.seats.seats}

    def _others(self) -> dict[str, str]:
        cards = self._store.library.profiles
        return {card.profile.id: card.profile.title for card in cards if card.profile.id != self._draft.id}

    def _filter(self) -> None:
        wanted = self.search.text().casefold().split()
        if wanted:
            for inside, make, advanced in self._unfold:
                if any(_matches(option, wanted) for option in advanced):
                    make()  # type: ignore[operator]
                    inside.show()
        some = False
        for card, rows, lines in self._tables:
            found = [made for made in rows if made.matches(wanted)]
            for made in rows:
                made.setVisible(made in found)
            for line in lines:
                line.setVisible(not wanted)
            card.setVisible(bool(found))
            some = some or bool(found)
        self._none.setVisible(not some)
        self._none.say(
            f"No setting matches “{self.search.text().strip()}”. Any flag can be given under Extra arguments."
        )

    def row(self, key: str) -> Row | None:
        return self._rows.get(key)


def _short(one: object) -> str:
    from app.core.snapshot import InstallationView

    assert isinstance(one, InstallationView)
    return f"{engine_words.version(one)} · {engine_words.accelerator(one.accelerator)}"


def _matches(option: Option, wanted: list[str]) -> bool:
    text = f"{option.label} {option.name} {option.sentence} {option.flag}".casefold()
    return all(word in text for word in wanted)
