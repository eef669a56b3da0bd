"""Progress on standard error: one line that is kept up to date on a terminal, few lines elsewhere, none when quiet."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from onnx_dalr.cli.progress import Stage, TerminalProgress
from onnx_dalr.progress import TimeLeft, numbered
from tests.test_progress import Clock

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
LONG = "scoring (10/12)"


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Elsewhere:
    """Where there is no terminal: what was printed, line by line."""

    def __init__(self, clock: Clock, **options: bool) -> None:
        self._file = io.StringIO()
        self.progress = TerminalProgress(console=Console(file=self._file, width=120), clock=clock, **options)

    @property
    def lines(self) -> list[str]:
        return self._file.getvalue().splitlines()


class Terminal:
    """A terminal of so many columns."""

    def __init__(self, width: int = 80, *, encoding: str = "utf-8", term: str = "xterm") -> None:
        self._file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
        self.console = Console(file=self._file, force_terminal=True, width=width, height=20, _environ={"TERM": term})
        self.progress = TerminalProgress(console=self.console)

    @property
    def text(self) -> str:
        buffer = self._file.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self._file.encoding)


# Where there is no terminal


def test_a_short_run_prints_nothing_but_its_facts(clock: Clock) -> None:
    there = Elsewhere(clock)
    there.progress.say("split: fit 70")
    for phase in ("capturing", "probing", "factorizing"):
        with there.progress.stage(phase, 100) as advance:
            for _ in range(100):
                clock.wait(0.01)
                advance(1)
    assert there.lines == ["split: fit 70"]


def test_a_phase_that_goes_on_has_a_line_every_ten_seconds_and_one_at_its_end(clock: Clock) -> None:
    there = Elsewhere(clock)
    there.progress.expect({"capturing": 30.0, "probing": 60.0})
    with there.progress.stage("capturing", 60) as advance:
        for _ in range(60):
            clock.wait(0.5)
            advance(1)
    assert there.lines == [
        "capturing: 20 of 60, about 80 s left",
        "capturing: 40 of 60, about 70 s left",
        "capturing: 60 of 60, about 60 s left",
        "capturing took 30 s",
    ]


@pytest.mark.parametrize(("seconds", "lines"), [(2.0, []), (2.1, ["capturing took 2 s"])])
def test_a_phase_is_long_from_two_seconds_on(clock: Clock, seconds: float, lines: list[str]) -> None:
    there = Elsewhere(clock)
    with there.progress.stage("capturing", None):
        clock.wait(seconds)
    assert there.lines == lines


def test_many_short_stages_have_no_more_lines_than_a_long_one(clock: Clock) -> None:
    there = Elsewhere(clock)
    for number in range(1, 13):
        with there.progress.stage(numbered("scoring", number, 12), 4) as advance:
            for _ in range(4):
                clock.wait(0.75)
                advance(1)
    assert there.lines == [
        "scoring (4/12): 2 of 4",
        "scoring (7/12): 4 of 4",
        "scoring (11/12): 2 of 4",
        "scoring took 36 s",
    ]


def test_a_phase_that_ends_early_has_its_line_when_the_next_begins(clock: Clock) -> None:
    there = Elsewhere(clock)
    for number in (1, 2):
        with there.progress.stage(numbered("scoring", number, 12), 4):
            clock.wait(2)
    assert there.lines == []
    with there.progress.stage("rewriting", 4):
        assert there.lines == ["scoring took 4 s"]


def test_a_fact_is_a_sign_of_life_too(clock: Clock) -> None:
    there = Elsewhere(clock)
    with there.progress.stage("capturing", 60) as advance:
        clock.wait(9)
        there.progress.say("a fact")
        clock.wait(9)
        advance(1)
        assert there.lines == ["a fact"]
        clock.wait(1)
        advance(1)
    assert there.lines == ["a fact", "capturing: 2 of 60", "capturing took 19 s"]


def test_what_has_no_total_is_at_work(clock: Clock) -> None:
    there = Elsewhere(clock)
    with there.progress.stage("loading", None) as advance:
        clock.wait(10)
        advance(1)
    assert there.lines[0] == "loading: at work"


def test_a_phase_that_fails_says_nothing_more(clock: Clock) -> None:
    there = Elsewhere(clock)

    def fail() -> None:
        with there.progress.stage("capturing", 10):
            clock.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert there.lines == []
    with there.progress.stage("probing", 10):
        clock.wait(3)
    assert there.lines[-1] == "probing took 3 s"


def test_a_terminal_without_a_cursor_gets_lines() -> None:
    there = Terminal(term="dumb")
    with there.progress.stage("capturing", 10) as advance:
        advance(10)
    there.progress.say("a fact")
    assert "\x1b[?" not in there.text
    assert "\r" not in there.text
    assert "a fact" in there.text


# What the user wants to read


def test_quiet_prints_nothing(clock: Clock) -> None:
    there = Elsewhere(clock, quiet=True, verbose=True)
    there.progress.say("a fact")
    there.progress.detail("a detail")
    there.progress.expect({"capturing": 100.0})
    with there.progress.stage("capturing", 10) as advance:
        for _ in range(10):
            clock.wait(20)
            advance(1)
    assert there.lines == []


def test_details_are_for_those_who_ask_for_them(clock: Clock) -> None:
    for verbose in (False, True):
        there = Elsewhere(clock, verbose=verbose)
        there.progress.say("a fact")
        there.progress.detail("tried 5 parameters")
        assert there.lines == ["a fact", "tried 5 parameters"][: 1 + verbose]


def test_a_fact_is_one_line_whatever_is_in_it(clock: Clock) -> None:
    there = Elsewhere(clock)
    there.progress.say("a file\nwith \x1b[31m colours")
    assert there.lines == [r"a file\nwith \x1b[31m colours"]


def test_a_stage_inside_another_is_not_shown(clock: Clock) -> None:
    there = Elsewhere(clock)
    with there.progress.stage("outer", 10) as advance, there.progress.stage("inner", 10) as inner:
        clock.wait(11)
        inner(5)
        assert there.lines == []
        advance(1)
    assert there.lines == ["outer: 1 of 10", "outer took 11 s"]


# On a terminal


def drawn(
    width: int,
    name: str = "capturing",
    total: int | None = 1434,
    done: int = 717,
    left: float = 40.0,
    about: tuple[str, ...] = (),
) -> str:
    known = TimeLeft(lambda: 0.0)
    known.expect({name: left})
    stage = Stage(name, total, known)
    stage.done, stage.about = done, about
    return stage.line(width).plain


def test_the_line_says_the_phase_how_much_is_done_and_how_long_the_whole_takes() -> None:
    assert drawn(60) == "capturing  ━━━━━━━━─────────   717/1434  about 40 s left   "


@pytest.mark.parametrize("width", [*range(1, 30), 40, 60, 80, 160, 400])
@pytest.mark.parametrize("total", [None, 9, 123_456])
@pytest.mark.parametrize("name", ["capturing", LONG, "looking at the original"])
def test_it_never_fills_the_width(width: int, total: int | None, name: str) -> None:
    assert len(drawn(width, name, total, total or 0)) < width


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, {"scoring", "bar", "9/307", "left"}),
        (60, {"scoring", "bar", "9/307", "left"}),
        (46, {"scoring", "9/307", "left"}),
        (38, {"scoring", "left"}),
        (22, {"scoring"}),
    ],
)
def test_what_has_no_room_is_left_out_the_least_telling_first(width: int, shown: set[str]) -> None:
    line = drawn(width, LONG, 307, 9)
    found = {word for word in ("scoring", "9/307", "left") if word in line} | ({"bar"} if "─" in line else set())
    assert found == shown


TRIED = "24.3 % of the parameters", ", the last one lost 0.69 points"


@pytest.mark.parametrize(
    ("width", "shown"), [(160, "".join(TRIED)), (110, "".join(TRIED)), (80, TRIED[0]), (60, ""), (30, "")]
)
def test_it_says_what_is_tried_in_as_many_words_as_there_is_room_for(width: int, shown: str) -> None:
    bare = drawn(width, LONG, 307, 9)
    told = drawn(width, LONG, 307, 9, about=("".join(TRIED), TRIED[0]))
    assert len(told) < width
    if not shown:
        assert told == bare
        return
    assert told.endswith(f"  {shown}")
    assert "─" in told
    assert "9/307  about 40 s left" in told


def test_what_a_stage_is_at_goes_with_it() -> None:
    there = Terminal(120)
    there.progress.about("20.0 % of the parameters")
    with there.progress.stage("scoring (1/2)", 10):
        pass
    assert there.text.count("20.0 %") == 2  # when it begins, and when it is taken back
    with there.progress.stage("verifying", 10):
        there.progress.about("half of it")
    assert there.text.count("20.0 %") == 2
    assert "half of it" in there.text


def test_what_a_stage_is_at_is_no_line_of_its_own_where_there_is_no_terminal(clock: Clock) -> None:
    there = Elsewhere(clock, verbose=True)
    with there.progress.stage("scoring (1/2)", 2) as advance:
        there.progress.about("20.0 % of the parameters")
        advance(1)
        clock.wait(11)
        advance(1)
    assert there.lines == ["scoring (1/2): 2 of 2"]


def test_it_does_not_move_while_numbers_grow() -> None:
    at = {drawn(80, done=done, left=left).index("/1434") for done in (0, 99, 1434) for left in (3, 40, 500)}
    assert len(at) == 1


@pytest.mark.parametrize(("done", "filled"), [(0, 0), (5, 20), (10, 40), (99, 40)])
def test_the_bar_is_the_share_of_the_phase(done: int, filled: int) -> None:
    assert drawn(200, total=10, done=done).count("━") == filled


def test_of_several_stages_the_bar_is_that_of_all() -> None:
    assert drawn(200, "scoring (2/4)", 10, 5).count("━") == 15


def test_plain_characters_where_there_are_no_others() -> None:
    there = Terminal(encoding="ascii")
    with there.progress.stage("capturing", 10) as advance:
        advance(5)
    assert "####" in there.text
    assert "...." in there.text


@pytest.mark.parametrize("width", [20, 60, 80, 160])
def test_the_terminal_is_as_it_was_afterwards(width: int) -> None:
    there = Terminal(width)
    with there.progress.stage("capturing", 10) as advance:
        advance(10)
    assert "capturing" in there.text
    assert there.text.count(HIDE) == there.text.count(SHOW) == 1
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", there.text).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) < width
    assert there.text.endswith("\r\x1b[1A\x1b[2K")


def test_after_an_interrupt_too() -> None:
    there = Terminal()

    def interrupted() -> None:
        with there.progress.stage("capturing", 10):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert there.text.count(HIDE) == there.text.count(SHOW) == 1
    assert there.text.endswith("\r\x1b[1A\x1b[2K")
    with there.progress.stage("probing", 10):
        pass
    assert "probing" in there.text


def test_facts_come_above_the_line() -> None:
    there = Terminal()
    with there.progress.stage("capturing", 10) as advance:
        advance(5)
        there.progress.say("a fact, whole")
        advance(5)
    assert re.search(r"\r\x1b\[2K(\x1b\[\d+m)?a fact, whole", there.text)


def test_no_phase_leaves_a_line_behind() -> None:
    there = Terminal()
    for phase in ("capturing", "probing"):
        with there.progress.stage(phase, 2) as advance:
            advance(2)
    assert " took " not in there.text
