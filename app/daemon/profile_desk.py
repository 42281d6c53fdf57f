"""Owns the person's profile files: gives a profile's text, takes a changed one whole or not at all, and keeps what was removed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import tomli_w

from app.core import control
from app.core.errors import BadRequest, NotWritable, ProfileChanged, ProfileInvalid
from app.core.paths import Paths
from app.core.profiles import ID, MAX_PROFILE_BYTES, Profile, parse_profile
from app.core.resources import profiles_folder
from app.core.snapshot import ProfileCard
from app.daemon.settings_file import write_whole
from app.engines.base import EngineFamily


class ProfileDesk:
    """All work with the files happens in a thread, one change at a time: two windows cannot lose each other's."""

    def __init__(
        self,
        paths: Paths,
        families: Mapping[str, EngineFamily],
        card: Callable[[str], ProfileCard],
        look_again: Callable[[], Awaitable[object]],
    ) -> None:
        """`card` finds a profile or raises UnknownProfile; `look_again` lets the library read its folders now."""
        self._own = paths.profiles
        self._trash = paths.data / "trash" / "profiles"
        self._families = families
        self._card = card
        self._look_again = look_again
        self._changing = asyncio.Lock()

    async def text(self, profile_id: str) -> control.ProfileText:
        """The profile's file as it is, even one that cannot be used; made up for a model that has no file yet.

        Raises UnknownProfile.
        """
        own = self._file(profile_id) if ID.fullmatch(profile_id) else None
        if own is not None and own.is_file():
            return control.ProfileText(profile=profile_id, text=await asyncio.to_thread(_read, own))
        profile = self._card(profile_id).profile
        if profile.source == "shipped":
            text = await asyncio.to_thread(_read, profiles_folder() / f"{profile.id}.toml")
        elif profile.source == "found":
            text = text_of(profile)
        else:
            text = await asyncio.to_thread(_read, Path(profile.source))
        return control.ProfileText(profile=profile.id, text=text, own=profile.source not in ("shipped", "found"))

    async def save(self, wish: control.ProfileText) -> control.ProfileText:
        """Writes the person's own file of that id; of a shipped or found profile it makes an own copy.

        Raises ProfileInvalid with every problem, and ProfileChanged when the file is not what the change was made from;
        the file is as it was then.
        """
        async with self._changing:
            await asyncio.to_thread(self._save, wish)
        await self._look_again()
        return control.ProfileText(profile=wish.profile, text=wish.text)

    def _save(self, wish: control.ProfileText) -> None:
        file = self._file(wish.profile)
        if len(wish.text.encode()) > MAX_PROFILE_BYTES:
            raise ProfileInvalid(str(file), "", "it is too large for a profile.", "Keep it below one MiB.")
        options = {name: family.options for name, family in self._families.items()}
        presets = {name: family.presets for name, family in self._families.items()}
        parse_profile(wish.text, file, options, presets)
        if wish.based_on is not None and file.is_file() and (there := _read(file)) not in (wish.based_on, wish.text):
            raise ProfileChanged(
                f"{file} was changed by somebody else meanwhile.",
                "Look at it again, then save; nothing was written.",
                f"It has {len(there.splitlines())} lines now.",
            )
        # A link is followed, so that a person's own way of keeping such files stays. Only its owner may read it: it may
        # hold keys.
        write_whole(file.resolve() if file.is_symlink() else file, wish.text, mode=0o600)

    async def remove(self, profile_id: str) -> control.Accepted:
        """Moves the person's own file into the trash; raises UnknownProfile, and BadRequest for what is not a file of theirs."""
        file = self._file(profile_id)
        if not file.is_file():
            source = self._card(profile_id).profile.source
            why = {
                "shipped": (
                    "ships with Engine Room and stays.",
                    "A profile of yours with the same name takes its place.",
                ),
                "found": (
                    "was found in a model folder and has no file.",
                    "Remove the model's file, or the folder in the settings.",
                ),
            }.get(source, (f"is called by that alias only; its file is {source}.", "Name it by its id."))
            raise BadRequest(f"{profile_id} {why[0]}", why[1])
        async with self._changing:
            kept = await asyncio.to_thread(self._to_trash, file)
        await self._look_again()
        return control.Accepted(note=f"{profile_id} is removed; its file is kept at {kept}.", profile=profile_id)

    def _to_trash(self, file: Path) -> Path:
        kept = self._trash / f"{file.stem}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1000:03}.toml"
        try:
            write_whole(kept, file.read_bytes(), mode=0o600)  # as it is, also what is no profile and of any size
            file.unlink()
        except OSError as error:
            raise NotWritable(
                f"{file} cannot be removed: {error.strerror}.", "Check the folder's permissions."
            ) from error
        return kept

    def _file(self, profile_id: str) -> Path:
        if not ID.fullmatch(profile_id):
            raise ProfileInvalid(
                str(self._own / f"{profile_id[:80]}.toml"),
                "",
                "a profile's file name is its id: letters, digits, dot, dash and underscore.",
                "Choose another name.",
            )
        return self._own / f"{profile_id}.toml"


def text_of(profile: Profile) -> str:
    """A profile as the text of a file: what says something, in the order of the documentation."""
    values: dict[str, object] = {"title": profile.title}
    if profile.description:
        values["description"] = profile.description
    values |= {"engine": profile.engine, "model": profile.model}
    values |= {"settings": dict(profile.settings)} if profile.settings else {}
    return tomli_w.dumps(values)


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_PROFILE_BYTES + 1).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProfileInvalid(str(file), "", "it is not text in UTF-8.", "Save it as UTF-8.") from error
    except OSError as error:
        raise ProfileInvalid(
            str(file), "", f"it cannot be read: {error.strerror}.", "Check the file's permissions."
        ) from error
