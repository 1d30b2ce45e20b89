"""What a person reads: sizes, times, tables in both languages, progress with rate and time left."""

from __future__ import annotations

import re

import pytest

from commands import talk
from commands.talk import Talk
from rollout.messages import say
from rollout.presentation import Speaker, clipped, duration, moment, padded, size, table, width

ENGLISH, CHINESE = Speaker(chinese=False), Speaker(chinese=True)


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (12_345_678, "12.3 MB"), (711_000_000, "711 MB")],
)
def test_sizes(number, text):
    """Bytes are said in the unit that people use."""
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.04, "0.0 s"), (59.94, "59.9 s"), (125, "2 min 5 s"), (11_040, "3 h 4 min"), (180_000, "2 d 2 h")],
)
def test_durations(seconds, text):
    """Times are said in the unit that people use."""
    assert duration(seconds) == text


def test_moments():
    """A time of the record is said to the second."""
    assert moment("2026-11-23T02:17:11.296733+00:00") == "2026-11-23 02:17:11"
    assert moment("2026-11-23T10:17:11.296733+08:00") == "2026-11-23 10:17:11+08:00"
    assert moment(None) == "-"


def test_chinese_takes_two_cells():
    """Columns stand under each other in both languages."""
    assert width("版本 x") == 6
    assert padded("行", 4) == "行  "
    assert clipped("一二三四", 6) == "一二…"
    rows = [["律师等级", 10], ["users", 1234567]]
    for speak in (ENGLISH, CHINESE):
        lines = list(table([say("table"), say("rows")], rows, speak))
        assert len({width(line) for line in lines[1:]}) == 1
        assert lines[2].endswith("1,234,567")
    assert list(table([say("table")], [], ENGLISH)) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "yes"), (1234, "1,234"), (0.25, "0.25"), (2.0, "2"), (["a", 1], "a, 1"), ({"a": None}, "a -")],
)
def test_values(value, text):
    """Any value of a result is one line."""
    assert ENGLISH.value(value) == text


@pytest.fixture
def clock(monkeypatch):
    """Return the time that ``Talk`` sees, to be moved."""
    now = [100.0]
    monkeypatch.setattr(talk.time, "monotonic", lambda: now[0])
    return now


def test_progress_without_a_terminal(clock, capsys):
    """A plain line every ten seconds: how far, how fast, how long still."""
    listener = Talk(ENGLISH)
    for done in range(0, 301, 10):
        listener.progress("backup", done * 1_000_000, 1_000_000_000, "bytes")
        clock[0] += 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "  backup: 100 MB / 1.0 GB, 10.0 MB/s, 1 min 30 s left",
        "  backup: 200 MB / 1.0 GB, 10.0 MB/s, 1 min 20 s left",
        "  backup: 300 MB / 1.0 GB, 10.0 MB/s, 1 min 10 s left",
    ]


def test_progress_in_chinese_and_without_an_end(clock, capsys):
    """Where the total is not known there is no time left; units are in the operator's language."""
    listener = Talk(CHINESE)
    listener.progress("copy", 0, None, "rows")
    clock[0] += 11
    listener.progress("copy", 11_000, None, "rows")
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"  复制.*: 11,000 行, 1,000/s", line)


def test_progress_beyond_an_estimate(clock, capsys):
    """Where there is more than was thought, nobody knows the end: no total, no share of it, no time left."""
    listener = Talk(ENGLISH)
    listener.progress("copy", 0, 319, "rows")
    clock[0] += 10
    listener.progress("copy", 369, 319, "rows")
    assert capsys.readouterr().err == "  copy: 369 rows, 37/s\n"
    listener.is_terminal = True
    listener.progress("copy", 319, 319, "rows")
    assert listener.bar.tasks[0].fields["share"] == "100 %"
    listener.progress("copy", 369, 319, "rows")
    assert listener.bar.tasks[0].fields == {"share": "", "how_far": "369 rows, 37/s"}
    listener.stop()


def test_progress_on_a_terminal(clock, capsys):
    """A bar that moves, and goes when the step has ended."""
    listener = Talk(ENGLISH)
    listener.is_terminal = True
    listener.progress("copy", 0, 100, "rows")
    clock[0] += 10
    listener.progress("copy", 50, 100, "rows")
    assert listener.bar.tasks[0].fields["how_far"] == "50 / 100 rows, 5/s, 10.0 s left"
    assert listener.bar.tasks[0].percentage == 50
    listener.note("done")
    assert listener.bar is None
    assert "done" in capsys.readouterr().err
