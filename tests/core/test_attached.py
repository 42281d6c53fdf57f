"""What an engine that is not ours goes through: no arrow of it ends anything (I5), and whoever was away is looked at anew (I13)."""

from app.core.attached import News, Watched, after
from app.core.lifecycle import AttachedState


def walk(*news: News) -> list[str]:
    watched = Watched(state=AttachedState(state="probing", where="there"))
    seen = []
    for now, each in enumerate(news, 1):
        watched = after(watched, each, float(now), "why" if each == "silent" else "")
        seen.append(f"{watched.state.state}@{watched.state.since:g}")
    return seen


def test_the_way_to_ready_away_and_back() -> None:
    assert walk("is_ours", "answers", "silent", "silent", "silent", "answers", "is_ours") == [
        *("ready@1", "ready@1", "ready@1", "unreachable@4", "unreachable@4", "probing@6", "ready@7"),
    ]


def test_one_silent_look_is_forgiven_and_a_change_is_not() -> None:
    assert walk("is_ours", "silent", "answers", "silent", "answers") == ["ready@1"] * 5
    assert walk("is_ours", "changed") == ["ready@1", "probing@2"]
    assert walk("silent") == ["unreachable@1"], "what never answered is not waited for"


def test_a_reason_goes_with_the_silence() -> None:
    ready = Watched(state=AttachedState(state="ready", where="there"), silent=1)
    assert after(ready, "silent", 2.0, "It is gone.").state.reason == "It is gone."
    assert after(after(ready, "silent", 2.0, "It is gone."), "answers", 3.0).state.reason == ""
