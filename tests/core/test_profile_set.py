"""What only shows between profiles: chains of fallbacks and what each seat starts with (E5, S8)."""

from app.core.profile_set import at_start, fallbacks_of, problems_of
from app.core.profiles import Profile


def profiles(*made: Profile) -> dict[str, Profile]:
    return {profile.id: profile for profile in made}


def of(profile_id: str, **more: object) -> Profile:
    return Profile(id=profile_id, title=profile_id, engine="llama.cpp", model="x", source=f"{profile_id}.toml", **more)  # type: ignore[arg-type]


def test_a_chain_goes_as_far_as_it_is_declared() -> None:
    known = profiles(of("a", fallback="b"), of("b", fallback="see"), of("c", aliases=("see",)))
    assert fallbacks_of("a", known) == ("b", "c")
    assert fallbacks_of("c", known) == ()
    assert problems_of(known) == ()


def test_a_circle_is_walked_once_and_told_by_those_in_it() -> None:
    known = profiles(of("in", fallback="a"), of("a", fallback="b"), of("b", fallback="a"), of("self", fallback="self"))
    assert fallbacks_of("in", known) == ("a", "b")
    assert fallbacks_of("self", known) == ()
    assert {problem.where for problem in problems_of(known)} == {"a.toml", "b.toml", "self.toml"}


def test_a_fallback_that_is_no_profile_ends_the_chain_and_is_told() -> None:
    known = profiles(of("a", fallback="nobody"))
    assert fallbacks_of("a", known) == ()
    assert "nobody" in problems_of(known)[0].summary


def test_each_seat_starts_with_one_profile_and_a_second_is_told_at_its_own_file() -> None:
    known = profiles(
        of("b", load_at_start=True), of("a", load_at_start=True), of("c", load_at_start=True, seat="side"), of("d")
    )
    assert [at_start(seat, known.values()) for seat in ("main", "side", "third")] == ["a", "c", None]
    (problem,) = problems_of(known)
    assert problem.where == "b.toml"
    assert "a and b" in problem.summary
