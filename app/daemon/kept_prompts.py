"""Keeps what an engine has read of its conversations on the disk while it is unloaded, and gives it back when it returns.

The native server saves a slot's cache into a folder that it was started with. A file is named by all that makes a cache what
it is, so that another model, build or setting never gets it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import aiohttp

from app.daemon.preparing import Prepared
from app.engines.native_options import PROMPTS_FOLDER

log = logging.getLogger(__name__)

MOST_SLOTS = 64


def folder_of(prepared: Prepared) -> Path | None:
    """Where this run's prompts are kept; None where its profile names no folder."""
    said = prepared.profile.settings.get(PROMPTS_FOLDER)
    return Path(said) if isinstance(said, str) and said else None


async def keep(prepared: Prepared, seconds: float) -> int:
    """How many conversations were kept; none is no failure, for it only costs the time of reading them again."""
    folder = folder_of(prepared)
    if folder is None or prepared.launch is None:
        return 0
    kept = 0
    try:
        await asyncio.to_thread(drop_outdated, folder, prepared.profile.id, _stem(prepared))
        async with asyncio.timeout(seconds), _session(prepared) as session:
            for slot in await _slots(session, prepared):
                body = {"filename": f"{_stem(prepared)}-{slot}.bin"}
                kept += bool((await _act(session, prepared, slot, "save", body)).get("n_saved"))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        log.info("the prompts of %s could not all be kept: %s", prepared.profile.id, error)
    return kept


async def give_back(prepared: Prepared, seconds: float) -> int:
    """How many conversations came back; a file is used once and then gone."""
    folder = folder_of(prepared)
    if folder is None or prepared.launch is None:
        return 0
    back = 0
    try:
        files = await asyncio.to_thread(lambda: sorted(folder.glob(f"{_stem(prepared)}-*.bin")))
        async with asyncio.timeout(seconds), _session(prepared) as session:
            for file in files[:MOST_SLOTS]:
                slot = int(file.stem.rpartition("-")[2])
                back += bool(
                    (await _act(session, prepared, slot, "restore", {"filename": file.name})).get("n_restored")
                )
                await asyncio.to_thread(file.unlink, missing_ok=True)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        log.info("the prompts of %s could not all be given back: %s", prepared.profile.id, error)
    return back


def drop_outdated(folder: Path, profile_id: str, stem: str) -> None:
    """Deletes what other settings or builds of the profile have left: gigabytes that the present ones can never read."""
    ours = re.compile(re.escape(profile_id) + r"-[0-9a-f]{16}-\d+\.bin")
    for file in folder.iterdir():
        if ours.fullmatch(file.name) and not file.name.startswith(f"{stem}-"):
            file.unlink(missing_ok=True)


def _session(prepared: Prepared) -> aiohttp.ClientSession:
    assert prepared.launch is not None
    key = prepared.launch.api_key
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"} if key else {}, trust_env=False)


async def _slots(session: aiohttp.ClientSession, prepared: Prepared) -> list[int]:
    async with session.get(f"{_base(prepared)}/slots") as answer:
        slots = json.loads(await answer.content.read(4 * 1024**2)) if answer.status == 200 else []
    slots = slots if isinstance(slots, list) else []
    return [slot["id"] for slot in slots[:MOST_SLOTS] if isinstance(slot, dict) and isinstance(slot.get("id"), int)]


async def _act(
    session: aiohttp.ClientSession, prepared: Prepared, slot: int, action: str, body: dict[str, str]
) -> dict[str, Any]:
    async with session.post(f"{_base(prepared)}/slots/{slot}?action={action}", json=body) as answer:
        value = json.loads(await answer.content.read(1024**2)) if answer.status == 200 else {}
        return value if isinstance(value, dict) else {}


def _base(prepared: Prepared) -> str:
    assert prepared.launch is not None
    return f"http://{prepared.launch.host}:{prepared.launch.port}"


def _stem(prepared: Prepared) -> str:
    assert prepared.launch is not None
    facts = prepared.card.facts
    made_of = [
        prepared.installation.executable,
        prepared.installation.build,
        prepared.card.model_path,
        *((facts.modified_ns, facts.file_bytes) if facts is not None else ()),
        sorted(prepared.family.effective_settings(prepared.launch).items()),
    ]
    return f"{prepared.profile.id}-{hashlib.sha256(json.dumps(made_of, default=str).encode()).hexdigest()[:16]}"
