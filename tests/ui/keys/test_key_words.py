"""Which keys are needed, kept and missing: decided from the names alone (I18)."""

from __future__ import annotations

from app.core.profiles import Profile
from app.core.snapshot import ProfileCard
from app.ui.keys.words import HUB, key_of, lacking, lines


def remote(name: str, key_name: str = "", engine: str = "remote") -> ProfileCard:
    settings = {"key_name": key_name} if key_name else {}
    profile = Profile(id=name, title=name.title(), engine=engine, model="gpt", settings=settings)
    return ProfileCard(profile=profile, facts=None, model_path="", available=True, engine_available=True)


def test_a_key_is_missing_only_where_an_endpoint_wants_it_and_it_is_known_that_none_is_kept() -> None:
    far = remote("far", "work")
    assert key_of(far) == "work"
    assert lacking(far, {}) == "work"
    assert lacking(far, {"work": "file"}) == ""
    assert lacking(far, None) == "", "nobody has told yet: nothing is asked for"
    assert lacking(remote("open"), {}) == ""
    assert lacking(remote("near", "work", engine="llama.cpp"), {}) == ""


def test_what_is_missing_stands_before_what_is_kept() -> None:
    cards = (remote("far", "work"), remote("farther", "work"), remote("azure", "eu"))
    told = lines({"old": "file", "eu": "keyring", HUB: "keyring"}, cards)
    assert [(line.name, line.is_kept) for line in told] == [(HUB, True), ("work", False), ("old", True), ("eu", True)]
    assert told[1].told == "For Far, Farther."
    assert (told[2].told, told[2].place) == ("No profile uses it.", "In a file that only this account can read")
    assert told[0].place == "In the desktop’s keyring"


def test_without_any_key_the_hub_is_offered_alone() -> None:
    (only,) = lines({}, ())
    assert (only.name, only.is_kept) == (HUB, False)
