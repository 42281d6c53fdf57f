"""Decides what may be asked of engines that are not ours, beside loading: keys of remote ones, models fetched by Ollama."""

from __future__ import annotations

from collections.abc import Callable

from app.core import control
from app.core.errors import BadRequest, EngineNotInstalled
from app.daemon.job_program import PullingByOllama
from app.daemon.jobs import Jobs
from app.daemon.keys import Keys
from app.engines.base import Installation
from app.engines.ollama import full_name
from app.engines.registry import FAMILIES

LONGEST_NAME = 300


class AttachedWork:
    def __init__(self, keys: Keys, jobs: Jobs, find: Callable[[str, str], Installation | None]) -> None:
        """`find` gives the installation of a family, by a pin or "" for the one that is used."""
        self._keys = keys
        self._jobs = jobs
        self._find = find

    async def keys(self) -> control.Keys:
        return control.Keys(keys=await self._keys.names())

    async def set_key(self, wish: control.GivenKey) -> control.Accepted:
        place = await self._keys.set(wish.name, wish.key)
        return control.Accepted(note=place.told(f"The key {wish.name}"))

    async def remove_key(self, wish: control.KeyOf) -> control.Accepted:
        if not await self._keys.remove(wish.name):
            there = ", ".join(await self._keys.names()) or "none"
            raise BadRequest(f"There is no key called {wish.name[:80]!r}.", f"There are: {there}.")
        return control.Accepted(note=f"The key {wish.name} is forgotten.")

    async def pull(self, wish: control.OllamaPull) -> control.JobStarted:
        """Raises EngineNotInstalled when no Ollama runs that could fetch it."""
        name = wish.model.strip()
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or " " in name:
            raise BadRequest(f"{wish.model[:80]!r} is no name of a model.", "For example llama3.2:3b.")
        found = self._find("ollama", wish.where)
        if found is None or not found.is_address:
            raise EngineNotInstalled("No Ollama is running that could fetch a model.", FAMILIES["ollama"].how_to_get())
        name = full_name(name)
        order = PullingByOllama(url=found.executable, model=name)
        started = await self._jobs.begin(
            "ollama", f"Fetching {name} with Ollama", name, order, frozenset((f"ollama {name}",))
        )
        return control.JobStarted(job=started)
