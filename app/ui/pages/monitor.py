"""The monitor: how fast and how full everything is, now and over the last ten minutes."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from app.core.errors import EngineRoomError
from app.core.snapshot import DriverState, GpuSample, History, HostSample, RequestView
from app.ui import wording
from app.ui.link import Link
from app.ui.store import Store
from app.ui.theme import Space, Theme
from app.ui.widgets.bench_card import BenchCard
from app.ui.widgets.layout import Card, Grid, PageColumn, row
from app.ui.widgets.memory_bar import MemoryBar
from app.ui.widgets.memory_panel import engine_bytes, segments, short_name
from app.ui.widgets.pill import Pill
from app.ui.widgets.sparkline import Sparkline
from app.ui.widgets.table import Row, Table
from app.ui.widgets.text import ElidedLabel, Label

Words = Callable[[float | None], str]


class FigureCard(Card):
    """A number that matters, its unit, and its last ten minutes."""

    def __init__(
        self, theme: Theme, title: str, unit: str, colour: str, words: Words, ceiling: float | None = None
    ) -> None:
        super().__init__(margins=Space.large, spacing=2)
        self._words = words
        self.figure = Label(theme, wording.DASH, "figure")
        self.figure.setAccessibleName(title)
        self._unit = Label(theme, unit, "body", "muted")
        self.line = Sparkline(
            theme, f"{title}, last ten minutes", colour, 44, ceiling, lambda v: f"{words(v)} {unit}".strip()
        )
        figures = row(self.figure, self._unit, None, spacing=6)
        self.column.addWidget(Label(theme, title, "body", "muted"))
        self.column.addLayout(figures)
        self.column.addSpacing(4)
        self.column.addWidget(self.line)

    def show_value(self, value: float | None, unit: str | None = None) -> None:
        self.figure.say(self._words(value), "faint" if value is None else "")
        if unit is not None:
            self._unit.say(unit)


class GpuCard(Card):
    """One graphics card: memory by holder, and what it is doing."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(spacing=Space.small)
        self._theme = theme
        self._name = ElidedLabel(theme, "", "title")
        self._throttle = Pill(theme, "", "warning")
        self._bar = MemoryBar(theme, name="Memory of this card")
        self._memory = Label(theme, "", "small_number", "muted")
        self.line = Sparkline(theme, "Utilisation, last ten minutes", "accent", 48, 1.0, wording.percent)
        self._busy = Label(theme, "", "small_number", "muted")
        self._facts = {
            key: Label(theme, wording.DASH, "small_number")
            for key in ("Power", "Temperature", "Core clock", "VRAM clock")
        }
        head = row(spacing=Space.medium)
        head.addWidget(self._name, 1)
        head.addWidget(self._throttle)
        head.addWidget(self._busy)
        self.column.addLayout(head)
        self.column.addLayout(row(self._bar, self._memory, spacing=Space.medium))
        self.column.addSpacing(4)
        self.column.addWidget(self.line)
        host = QWidget()
        grid = Grid(host, minimum=78, spacing=Space.small)
        for key, label in self._facts.items():
            grid.addWidget(_fact(theme, key, label))
        self.column.addWidget(host)

    def show_gpu(self, gpu: GpuSample, own: int) -> None:
        self._name.say(f"GPU {gpu.index}  {short_name(gpu.name)}")
        text = wording.size_of(gpu.used_bytes, gpu.total_bytes)
        self._bar.show_memory(segments(gpu.used_bytes, own, None, joins=False), gpu.total_bytes or 0, words=text)
        self._memory.say(text)
        reasons = gpu.throttle_reasons
        self._throttle.setVisible(bool(reasons))
        self._throttle.say(f"Slowed: {', '.join(reasons or ())}", "warning")
        self._busy.say(f"{wording.percent(gpu.utilisation)} busy")
        self._facts["Power"].say(_of(gpu.power_watts, gpu.power_limit_watts, "W"))
        self._facts["Temperature"].say(_number(gpu.temperature_celsius, "°C"))
        self._facts["Core clock"].say(_number(gpu.sm_clock_mhz, "MHz"))
        self._facts["VRAM clock"].say(_number(gpu.memory_clock_mhz, "MHz"))


class HostCard(Card):
    """Main memory and processor."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(spacing=Space.small)
        self._bar = MemoryBar(theme, name="Main memory")
        self._memory = Label(theme, "", "small_number", "muted")
        self._cpu = Label(theme, "", "small_number", "muted")
        self.line = Sparkline(theme, "Processor, last ten minutes", "accent", 48, 1.0, wording.percent)
        self.column.addLayout(row(Label(theme, "This computer", "title"), None, self._cpu))
        self.column.addLayout(row(self._bar, self._memory, spacing=Space.medium))
        self.column.addSpacing(4)
        self.column.addWidget(self.line)
        self.column.addStretch(1)

    def show_host(self, host: HostSample) -> None:
        used = host.total_bytes - host.available_bytes
        text = wording.size_of(used, host.total_bytes)
        own = min(host.engine_bytes or 0, used)
        self._bar.show_memory(segments(used, own, None, joins=False), host.total_bytes, words=text)
        self._memory.say(text)
        self._cpu.say(f"Processor {wording.percent(host.cpu_utilisation)}")


class MonitorPage(PageColumn):
    page_wanted = Signal(str, object)

    def __init__(self, store: Store, link: Link, theme: Theme) -> None:
        super().__init__()
        self._store, self._link, self._theme = store, link, theme
        self._gpu_cards: dict[str, GpuCard] = {}
        rate, count = wording.tokens_per_second, wording.count
        self.rate = FigureCard(theme, "Generation", "tok/s", "accent", rate)
        self.first = FigureCard(theme, "Time to first token", "ms", "good", _milliseconds)
        self.kv = FigureCard(theme, "KV cache in use", "%", "predicted", _hundredths, 1.0)
        self.requests = FigureCard(theme, "Requests", "running", "warning", count)
        self._figures = QWidget()
        grid = Grid(self._figures, minimum=172, most=4)
        for card in (self.rate, self.first, self.kv, self.requests):
            grid.addWidget(card)
        self._devices = QWidget()
        self._device_grid = Grid(self._devices, minimum=380)
        self.host = HostCard(theme)
        self._driver = Label(theme, "", "body", "muted", wrap=True)
        self.processes = Table(
            theme,
            "Processes on the graphics cards",
            (("Process", False), ("Whose", False), ("Card", True), ("PID", True), ("Memory", True)),
        )
        self._process_card = self._carded("On the graphics cards", self.processes)
        self.recent = Table(
            theme,
            "Recent requests",
            (
                ("Model", False),
                ("Outcome", False),
                ("First token", True),
                ("Duration", True),
                ("Prompt", True),
                ("Answer", True),
                ("tok/s", True),
            ),
        )
        self._recent_card = self._carded("Recent requests", self.recent)
        self._totals = Label(theme, "", "small_number", "muted")
        self.bench = BenchCard(theme, store, link)
        cards = (self._figures, self._devices, self._driver, self.bench, self._process_card, self._recent_card)
        for part in (*cards, self._totals):
            self.column.addWidget(part)
        self.column.addStretch(1)
        store.gpus_changed.connect(self._take_gpus)
        store.traffic_changed.connect(self._take_traffic)
        store.seats_changed.connect(self._show_gpus)
        store.connection_changed.connect(self._connected)
        self._rebuild([])
        self._show_gpus()
        self._show_traffic()
        self._connected()

    def _carded(self, title: str, table: Table) -> Card:
        card = Card(spacing=Space.medium)
        card.column.addWidget(Label(self._theme, title, "title"))
        card.column.addWidget(table)
        return card

    # --- history -----------------------------------------------------------------------------------------------------

    def _connected(self) -> None:
        self.widget().setEnabled(self._store.connected)
        if self._store.connected:
            self._link.tasks.start(self._fetch_history(), "history")

    async def _fetch_history(self) -> None:
        try:
            history = await self._link.get("/control/history", History)
        except EngineRoomError:
            return  # the lines begin now instead
        for line, name in self._lines().items():
            values = history.series.get(name)
            if values:
                line.fill(zip(history.times, values, strict=False))

    def _lines(self) -> dict[Sparkline, str]:
        """Each sparkline and its series in the history."""
        lines = {
            self.rate.line: "tokens_per_second",
            self.first.line: "first_token_seconds",
            self.kv.line: "kv_cache_usage",
            self.requests.line: "in_flight",
            self.host.line: "host:cpu_utilisation",
        }
        lines.update({card.line: f"gpu:{uuid}:utilisation" for uuid, card in self._gpu_cards.items()})
        return lines

    # --- showing -----------------------------------------------------------------------------------------------------

    def _take_gpus(self) -> None:
        self._show_gpus()
        gpus, now = self._store.gpus, self._store.daemon_now()
        for gpu in gpus.gpus:
            self._gpu_cards[gpu.uuid].line.append(now, gpu.utilisation)
        if gpus.host is not None:
            self.host.line.append(now, gpus.host.cpu_utilisation)
        traffic = self._store.traffic  # sampled on the same beat, so that a quiet second is a point of the line too
        self.rate.line.append(now, traffic.generation_tokens_per_second)
        self.first.line.append(now, traffic.first_token_seconds if traffic.in_flight else None)
        self.kv.line.append(now, traffic.kv_cache_usage)
        self.requests.line.append(now, traffic.in_flight)

    def _take_traffic(self) -> None:
        self._show_traffic()

    def _show_traffic(self) -> None:
        traffic = self._store.traffic
        known = "traffic" in self._store.known
        self.rate.show_value(traffic.generation_tokens_per_second if known else None)
        self.first.show_value(traffic.first_token_seconds)
        self.kv.show_value(traffic.kv_cache_usage)
        queued = f"now · {traffic.queued} queued" if traffic.queued else "running"
        self.requests.show_value(traffic.in_flight if known else None, queued)
        self.recent.show_rows(tuple(_request_row(request) for request in traffic.recent[:10]))
        self._recent_card.setVisible(bool(traffic.recent))
        self._totals.setVisible(traffic.requests_total > 0)
        self._totals.say(
            f"Since the service started: {wording.count(traffic.requests_total)} request{'' if traffic.requests_total == 1 else 's'}, "
            f"{wording.count(traffic.failed_total)} failed, {wording.count(traffic.cancelled_total)} cancelled, "
            f"{wording.count(traffic.prompt_tokens_total)} prompt and "
            f"{wording.count(traffic.completion_tokens_total)} answer tokens."
        )

    def _show_gpus(self) -> None:
        gpus, seat = self._store.gpus, self._store.seat()
        if list(self._gpu_cards) != [gpu.uuid for gpu in gpus.gpus]:
            self._rebuild([gpu.uuid for gpu in gpus.gpus])
        for gpu in gpus.gpus:
            self._gpu_cards[gpu.uuid].show_gpu(gpu, engine_bytes(gpu, seat))
        self.host.setVisible(gpus.host is not None)
        if gpus.host is not None:
            self.host.show_host(gpus.host)
        note = "" if gpus.driver is DriverState.OK and gpus.gpus else gpus.message or _DRIVER[gpus.driver]
        self._driver.say(note)
        self._driver.setVisible(bool(note))
        rows = tuple(_process_rows(gpus.gpus))
        self.processes.show_rows(rows)
        self._process_card.setVisible(bool(rows))

    def _rebuild(self, uuids: list[str]) -> None:
        while self._device_grid.takeAt(0) is not None:
            pass
        for gone in [uuid for uuid in self._gpu_cards if uuid not in uuids]:
            card = self._gpu_cards.pop(gone)
            card.hide()
            card.deleteLater()
        self._gpu_cards = {uuid: self._gpu_cards.get(uuid) or GpuCard(self._theme) for uuid in uuids}
        for card in (*self._gpu_cards.values(), self.host):
            self._device_grid.addWidget(card)


_DRIVER = {
    DriverState.STARTING: "Looking for graphics cards …",
    DriverState.ABSENT: "No NVIDIA driver on this machine: engines run on the CPU.",
    DriverState.OK: "The driver is there, but no graphics card.",
    DriverState.BROKEN: "The NVIDIA driver answers with errors.",
    DriverState.HUNG: "The NVIDIA driver has not answered for a while; the values shown are the last ones.",
}


def _fact(theme: Theme, title: str, value: Label) -> QWidget:
    cell = Card(margins=2, spacing=0)
    cell.setProperty("kind", "")
    value.setAccessibleName(title)
    cell.column.addWidget(Label(theme, title, "small", "muted"))
    cell.column.addWidget(value)
    return cell


def _number(value: float | None, unit: str) -> str:
    return wording.DASH if value is None else f"{wording.count(value)} {unit}"


def _of(value: float | None, limit: float | None, unit: str) -> str:
    if value is None or limit is None:
        return _number(value, unit)
    return f"{value:.0f}/{limit:.0f} {unit}"


def _milliseconds(seconds: float | None) -> str:
    return wording.DASH if seconds is None else wording.count(1000 * seconds)


def _hundredths(share: float | None) -> str:
    return wording.DASH if share is None else f"{100 * share:.0f}"


def _process_rows(gpus: tuple[GpuSample, ...]) -> list[Row]:
    rows: list[tuple[int, Row]] = []
    for gpu in gpus:
        for process in gpu.processes or ():
            ours = process.run_id is not None
            cells = (
                process.name,
                "Engine Room" if ours else "",
                str(gpu.index),
                str(process.pid),
                wording.size(process.bytes),
            )
            rows.append((-(process.bytes or 0), (cells, "accent" if ours else "")))
    return [cells for _, cells in sorted(rows, key=lambda entry: entry[0])][:24]


def _request_row(request: RequestView) -> Row:
    tone = {"failed": "danger", "refused": "warning"}.get(request.outcome, "")
    cells = (
        request.model or wording.DASH,
        request.outcome,
        wording.duration(request.first_token_seconds),
        wording.duration(request.duration_seconds),
        wording.count(request.prompt_tokens),
        wording.count(request.completion_tokens),
        wording.tokens_per_second(request.tokens_per_second),
    )
    return (cells, tone)
