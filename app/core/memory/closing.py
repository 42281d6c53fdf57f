"""Decides what closing other programs would do for a load that lacks room: the fewest of them that suffice, or what is missing still."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from app.core.memory.plan_types import Closing, DevicePlan, Holder

if TYPE_CHECKING:  # the snapshot imports our types
    from app.core.snapshot import GpuSample

MAX_HOLDERS = 16
WORTH_NAMING_BYTES = 64 * 1024**2
MOST_TRIED = 3  # so many programs at once are looked for among all; beyond that the largest first

# Without these there is no desktop: nobody is told to close them.
DESKTOP = frozenset((
    "Xorg", "X", "Xwayland", "gnome-shell", "kwin_wayland", "kwin_x11", "plasmashell", "mutter", "cinnamon", "xfwm4", "sway",
    "Hyprland", "weston", "cosmic-comp", "labwc", "wayfire", "gdm-x-session", "sddm", "sddm-greeter",
))  # fmt: skip


def holders_of(devices: Sequence[DevicePlan], cards: Sequence[GpuSample], ours: Collection[str]) -> tuple[Holder, ...]:
    """Processes that are not ours and hold memory of a card that the plan uses, largest first."""
    used = {device.device for device in devices}
    holders = [
        Holder(device=card.uuid, pid=process.pid, name=process.name, bytes=process.bytes)
        for card in cards
        if card.uuid in used
        for process in card.processes or ()
        if process.run_id is None or process.run_id not in ours
    ]
    return tuple(sorted(holders, key=lambda holder: -(holder.bytes or 0))[:MAX_HOLDERS])


def closings_of(devices: Sequence[DevicePlan], holders: Sequence[Holder]) -> tuple[Closing, ...]:
    """For each device that lacks room and is held by others; the one that lacks most first."""
    lacking = [(-device.spare_bytes, device) for device in devices if device.spare_bytes is not None]
    found = []
    for missing, device in sorted(lacking, key=lambda each: -each[0]):
        closable = [
            holder
            for holder in holders
            if holder.device == device.device
            and (holder.bytes or 0) >= WORTH_NAMING_BYTES
            and _program(holder.name) not in DESKTOP
        ]
        if missing <= 0 or not closable:
            continue
        chosen = _fewest(closable, missing)
        held = sum(holder.bytes or 0 for holder in chosen)
        found.append(
            Closing(device=device.device, processes=tuple(chosen), bytes=held, missing_bytes=max(0, missing - held))
        )
    return tuple(found)


def _fewest(holders: Sequence[Holder], missing: int) -> Sequence[Holder]:
    """The fewest that hold so much together, among those the ones that hold least; all when they do not."""
    for count in range(1, min(MOST_TRIED, len(holders)) + 1):
        enough = [each for each in combinations(holders, count) if _held(each) >= missing]
        if enough:
            return min(enough, key=_held)
    for count in range(MOST_TRIED + 1, len(holders) + 1):
        if _held(holders[:count]) >= missing:
            return holders[:count]
    return holders


def _held(holders: Sequence[Holder]) -> int:
    return sum(holder.bytes or 0 for holder in holders)


def _program(name: str) -> str:
    return name.rsplit("/", 1)[-1]
