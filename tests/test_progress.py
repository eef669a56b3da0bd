"""How much time a run has left: as expected at first, then as the phases so far went."""

from __future__ import annotations

import pytest

from onnx_dalr.progress import TimeLeft, counted, numbered, part_of


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def left(clock: Clock) -> TimeLeft:
    made = TimeLeft(clock)
    made.expect({"capturing": 10.0, "scoring": 40.0, "verifying": 5.0})
    return made


def passes(left: TimeLeft, clock: Clock, stage: str, seconds: float) -> None:
    left.begin(stage)
    clock.wait(seconds)
    left.end()


# Names of stages


@pytest.mark.parametrize(("part", "parts", "name"), [(1, 1, "scoring"), (3, 12, "scoring (3/12)")])
def test_the_stages_of_a_phase_are_numbered_where_there_are_several(part: int, parts: int, name: str) -> None:
    assert numbered("scoring", part, parts) == name
    assert part_of(name) == ("scoring", part, parts)


def test_other_names_are_phases_of_one_stage() -> None:
    assert part_of("reading (slowly)") == ("reading (slowly)", 1, 1)


def test_what_is_counted_comes_as_it_was() -> None:
    told: list[int] = []
    assert list(counted("abc", told.append)) == ["a", "b", "c"]
    assert told == [1, 1, 1]


# Time left


def test_nothing_is_known_before_something_is_expected(clock: Clock) -> None:
    left = TimeLeft(clock)
    assert left.seconds is None
    left.begin("looking at the original")
    left.reach(0.5)
    assert left.seconds is None


def test_at_first_it_is_what_is_expected_of_all_phases(left: TimeLeft) -> None:
    assert left.seconds == 55
    left.begin("capturing")
    assert left.seconds == 55


def test_it_falls_while_a_phase_goes_as_expected(left: TimeLeft, clock: Clock) -> None:
    left.begin("capturing")
    seen = []
    for step in range(1, 10):
        clock.wait(1)
        left.reach(step / 10)
        seen.append(left.seconds)
    assert seen == pytest.approx([54, 53, 52, 51, 50, 49, 48, 47, 46])


def test_a_step_that_takes_long_does_not_make_it_rise(left: TimeLeft, clock: Clock) -> None:
    left.begin("capturing")
    clock.wait(2)
    left.reach(0.2)
    seen = [left.seconds]
    for _ in range(20):
        clock.wait(1)
        seen.append(left.seconds)
    known = [each for each in seen if each is not None]
    assert known == sorted(known, reverse=True)
    assert known[-1] >= 45


def test_a_phase_that_is_slower_than_expected_goes_by_its_own_pace_soon(left: TimeLeft, clock: Clock) -> None:
    left.begin("capturing")
    clock.wait(30)
    left.reach(0.5)
    assert left.seconds is not None
    assert 45 + 20 < left.seconds < 45 + 30.1


@pytest.mark.parametrize("factor", [0.2, 1, 5])
def test_what_is_to_come_is_corrected_by_what_is_over(left: TimeLeft, clock: Clock, factor: float) -> None:
    passes(left, clock, "capturing", 10 * factor)
    left.begin("scoring")
    assert left.seconds == pytest.approx(45 * (10 * factor + 1) / 11)


def test_fractions_of_a_second_say_little_of_a_machine(clock: Clock) -> None:
    left = TimeLeft(clock)
    left.expect({"capturing": 0.01, "scoring": 10.0})
    passes(left, clock, "capturing", 0.1)
    left.begin("scoring")
    assert left.seconds is not None
    assert left.seconds < 11


def test_each_stage_is_a_share_of_its_phase(left: TimeLeft, clock: Clock) -> None:
    passes(left, clock, "capturing", 10)
    for number in range(1, 4):
        passes(left, clock, f"scoring ({number}/4)", 10)
    assert left.seconds == pytest.approx(10 + 5)
    left.begin("scoring (4/4)")
    clock.wait(5)
    left.reach(0.5)
    assert left.seconds == pytest.approx(5 + 5)


def test_a_phase_that_ends_early_is_over_when_the_next_begins_and_is_not_taken_for_a_quick_one(
    left: TimeLeft, clock: Clock
) -> None:
    passes(left, clock, "capturing", 10)
    passes(left, clock, "scoring (1/4)", 10)
    left.begin("verifying")
    assert left.seconds == pytest.approx(5)


def test_a_phase_that_nobody_expected_changes_nothing_but_what_it_takes_itself(left: TimeLeft, clock: Clock) -> None:
    passes(left, clock, "loading", 3)
    assert left.seconds == 55
    left.begin("loading")
    clock.wait(4)
    left.reach(0.5)
    assert left.seconds is not None
    assert 55 < left.seconds < 60


def test_a_phase_comes_back(clock: Clock) -> None:
    left = TimeLeft(clock)
    left.expect({"measuring": 4.0, "scoring": 8.0})
    passes(left, clock, "measuring (1/2)", 2)
    passes(left, clock, "scoring (1/2)", 4)
    left.begin("measuring (2/2)")
    clock.wait(1)
    left.reach(0.5)
    assert left.seconds is not None
    assert 4 < left.seconds < 6
    left.end()
    passes(left, clock, "scoring (2/2)", 4)
    assert left.seconds == 0


def test_it_is_never_less_than_nothing(left: TimeLeft, clock: Clock) -> None:
    passes(left, clock, "verifying", 500)
    assert left.seconds == 0
    left.end()
    assert left.seconds == 0
