"""What can be turned while a load is planned: context, KV type, layers on the card, slots; and vLLM's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from PySide6.QtCore import QPointF, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPen, QWheelEvent
from PySide6.QtWidgets import QSlider, QStyle, QStyleOptionSlider, QVBoxLayout, QWidget

from app.core.catalog.facts import ModelFacts
from app.core.memory.plan_types import MemoryPlan
from app.core.options import Option, Scalar
from app.ui import wording
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button, Segments
from app.ui.widgets.layout import row
from app.ui.widgets.text import ElidedLabel, Label

LEAST_CONTEXT_TOKENS = 512
MOST_CONTEXT_TOKENS = 1_048_576  # where a model does not tell its own
KV_TYPES = ("f16", "q8_0", "q4_0")
SLOTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def context_steps(most: int) -> tuple[int, ...]:
    """Four steps to each doubling, multiples of 256, the model's own longest last."""
    found = []
    base = LEAST_CONTEXT_TOKENS
    while base <= most:
        found += [base + base * quarter // 4 // 256 * 256 for quarter in range(4)]
        base *= 2
    return tuple(sorted({each for each in found if each < most} | {most}))


class DialSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to turn. `names` are the settings that it sets to one value; `steps` the values of a slider."""

    key: str
    title: str
    names: tuple[str, ...]
    steps: tuple[Scalar, ...]
    choices: tuple[str, ...] = ()  # then it is a choice and no slider
    words: str = "{}"


def dials_of(facts: ModelFacts, options: Sequence[Option], with_gpu: bool) -> tuple[DialSpec, ...]:
    """What this engine and this model let a person turn."""
    known = {option.name for option in options}
    steps = context_steps(max(LEAST_CONTEXT_TOKENS, min(facts.context_max or 131_072, MOST_CONTEXT_TOKENS)))
    units = (facts.layers or 0) + 1
    every = (
        DialSpec(key="context", title="Context", names=("context_tokens",), steps=steps, words="{} tokens"),
        DialSpec(key="kv", title="KV cache as", names=("kv_type_k", "kv_type_v"), steps=(), choices=KV_TYPES),
        DialSpec(key="kv", title="KV cache as", names=("kv_type",), steps=(), choices=("auto", "fp8")),
        DialSpec(
            key="layers",
            title="Layers on the GPU",
            names=("gpu_layers",),
            steps=tuple(range(units + 1)),
            words=f"{{}} of {units}",
        ),
        DialSpec(key="slots", title="Conversations at once", names=("slots",), steps=SLOTS),
        DialSpec(key="slots", title="Conversations at once", names=("max_sequences",), steps=SEQUENCES),
        DialSpec(
            key="share",
            title="Share of the GPU",
            names=("gpu_memory_utilisation",),
            steps=tuple(round(0.5 + 0.01 * n, 2) for n in range(49)),
        ),
    )
    return tuple(
        dial
        for dial in every
        if known.issuperset(dial.names) and (with_gpu or dial.key != "layers") and (dial.steps or dial.choices)
    )


class MarkedSlider(QSlider):
    """A slider over steps with one of them marked; the wheel scrolls the page unless it has the focus."""

    def __init__(self, theme: Theme, name: str) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self._theme = theme
        self._mark: int | None = None
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFixedHeight(26)
        theme.changed.connect(self.update)

    def mark(self, step: int | None) -> None:
        if step != self._mark:
            self._mark = step
            self.update()

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self._mark is None or self.maximum() <= self.minimum():
            return
        option = QStyleOptionSlider()
        self.initStyleOption(option)
        handle = (
            self.style()
            .subControlRect(QStyle.ComplexControl.CC_Slider, option, QStyle.SubControl.SC_SliderHandle, self)
            .width()
        )
        share = (self._mark - self.minimum()) / (self.maximum() - self.minimum())
        x = handle / 2 + share * (self.width() - handle)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(self._theme.colour("good"), 2))
        middle = self.height() / 2
        for side in (-1, 1):
            painter.drawLine(QPointF(x, middle + side * 6), QPointF(x, middle + side * 11))


class Dial(QWidget):
    """`turned` tells the settings that it has changed."""

    turned = Signal(object)

    def __init__(self, theme: Theme, spec: DialSpec) -> None:
        super().__init__()
        self.spec = spec
        self._value: Scalar | None = None
        self._steps: tuple[Scalar, ...] = spec.steps
        self._showing = False
        self._figure = ElidedLabel(theme, "", "small_number", "")
        self._figure.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._longest: int | None = None
        self._note = Button(theme, "", "link", "", "Take the longest context that fits")
        self._note.clicked.connect(lambda: self._tell(self._longest or 0))
        self._note.hide()
        head = row(Label(theme, spec.title, "label"), spacing=Space.small)
        head.addWidget(self._note)
        head.addWidget(self._figure, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(head)
        self.slider: MarkedSlider | None = None
        self.segments: Segments | None = None
        if spec.choices:
            self.segments = Segments(theme, spec.title, tuple((c, c, "") for c in spec.choices), "")
            self.segments.chosen.connect(self._choose)
            column.addWidget(self.segments, 0, Qt.AlignmentFlag.AlignLeft)
        else:
            self.slider = MarkedSlider(theme, spec.title)
            self.slider.setMaximum(len(spec.steps) - 1)
            self.slider.setPageStep(max(1, len(spec.steps) // 10))
            self.slider.valueChanged.connect(self._slid)
            column.addWidget(self.slider)

    def show_value(self, value: Scalar, words: str) -> None:
        """`value` may lie between the steps: then it becomes one."""
        self._value = value
        self._figure.say(words)
        if self.segments is not None:
            self.segments.choose(str(value))
            return
        assert self.slider is not None
        self._set_steps()
        self.slider.setAccessibleDescription(words)

    def show_longest(self, tokens: int | None, made_for: int | None) -> None:
        """Marks the longest that fits, and lets it be taken; None: none does, or nobody knows. More than the model was

        made for is not offered.
        """
        self._longest = tokens
        self._note.setVisible(tokens is not None)
        if tokens is not None:
            self._note.shape(
                f"{'made for' if tokens == made_for else 'longest that fits'}: {wording.count(tokens)}",
                "link",
                "",
                self._note.accessibleName(),
            )
        self._set_steps()

    def _set_steps(self) -> None:
        """The spec's steps, the value in force and the longest that fits; never under a finger that holds the handle."""
        slider, value = self.slider, self._value
        if slider is None or value is None:
            return
        self._showing = True
        if not slider.isSliderDown():
            also = {each for each in (value, self._longest) if each is not None and each not in self.spec.steps}
            self._steps = tuple(sorted((*self.spec.steps, *also), key=float))
            slider.setMaximum(len(self._steps) - 1)
        if value in self._steps:
            slider.setValue(self._steps.index(value))
        slider.mark(self._steps.index(self._longest) if self._longest in self._steps else None)
        self._showing = False

    def _slid(self, place: int) -> None:
        if not self._showing:
            self._tell(self._steps[place])

    def _choose(self, value: str) -> None:
        self._tell(value)

    def _tell(self, value: Scalar) -> None:
        if value == self._value:
            return
        changes: dict[str, Scalar] = dict.fromkeys(self.spec.names, value)
        self.turned.emit(changes)


def value_of(dial: DialSpec, settings: Mapping[str, Scalar], facts: ModelFacts, plan: MemoryPlan) -> Scalar:
    """What is in force: as set, else what the engine would take."""
    told = settings.get(dial.names[0])
    if told is not None:
        if dial.key == "layers" and isinstance(told, int):
            return min(told, (facts.layers or 0) + 1)
        return told
    match dial.key:
        case "context":
            return plan.context_tokens or min(facts.context_max or 4096, 32_768)
        case "layers":
            return (facts.layers or 0) + 1
        case "kv":
            return dial.choices[0]
        case "share":
            return _share(plan)
    return dial.steps[0] if dial.names[0] == "slots" else 256


def _share(plan: MemoryPlan) -> float:
    """Of the first card, as planned."""
    first = next((device for device in plan.devices if device.device != "host" and device.total_bytes), None)
    share = first.likely_bytes / first.total_bytes if first is not None and first.total_bytes else 0.9
    return round(min(0.98, max(0.5, share)), 2)


def words_of(dial: DialSpec, value: Scalar) -> str:
    if dial.key == "share" and isinstance(value, float):
        return wording.percent(value)
    if dial.choices:
        return ""
    return dial.words.format(wording.count(value) if isinstance(value, int) else value)


def with_flash(changes: Mapping[str, Scalar], settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """A quantised value cache needs flash attention: llama.cpp refuses it otherwise."""
    kind = changes.get("kv_type_v")
    if isinstance(kind, str) and kind not in ("f16", "f32", "bf16") and settings.get("flash_attention") == "off":
        return {**changes, "flash_attention": "on"}
    return dict(changes)
