"""How rows are made from their index alone, and stream into a table through COPY.

Every value is arithmetic on (seed, index): the same arguments give the same rows, and nothing is remembered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, TextIO, cast

from rollout.database import quote, raw_connection

if TYPE_CHECKING:
    from sqlalchemy import Connection

Progress = Callable[[str, int, "int | None", str], None]
"""``progress(table, done, total, "rows")``: what ``rollout.run.Listener.progress`` takes."""

NULL = r"\N"
"""NULL in COPY's text format (https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2)."""

DAY_COUNT = 2400
_BATCH = 200
_TOLD_EVERY = 10_000
_CLOCK_MASK = 0x3FFF
_SPREAD_64 = 0x9E3779B97F4A7C15
_MASK_64 = (1 << 64) - 1
_MASK_62 = (1 << 62) - 1
_VARIANT = 1 << 63
_WITHOUT_VERSION = _MASK_64 ^ 0xF000
_VERSION = 0x4000

_DAYS = [(date(2017, 1, 1) + timedelta(days=day)).isoformat() for day in range(DAY_COUNT + 500)]


@cache
def _clock() -> list[str]:
    """Return 16,384 times of day to the microsecond, as text: looking one up is much cheaper than writing one."""
    seconds = range(5, 5 * (_CLOCK_MASK + 2), 5)
    return [f" {n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}.{mix(n) % 1_000_000:06d}" for n in seconds]


def mix(number: int) -> int:
    """Return 64 well-spread bits for a number: the same for the same number, always."""
    spread = (number + 1) * _SPREAD_64 & _MASK_64
    return (spread ^ spread >> 29) * _SPREAD_64 & _MASK_64


def space(seed: int, name: str) -> int:
    """Return the number that sets one kind of row apart from all others under one seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")


def uuid_digits(of: int, index: int) -> str:
    """Return row ``index``'s uuid (version 4 by its looks) in a space as 32 digits; no two indexes share one."""
    low = of + index * _SPREAD_64 & _MASK_62
    return "%016x%016x" % (low * _SPREAD_64 & _WITHOUT_VERSION | _VERSION, low | _VARIANT)  # noqa: UP031 - twice as fast


def uuid_text(of: int, index: int) -> str:
    """Return ``uuid_digits`` with dashes: the text form, for columns that are not uuids."""
    digits = uuid_digits(of, index)
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def day(number: int, later: int = 0) -> str:
    """Return a day from 2017 to mid-2023, at most 500 days ``later``, as ISO text."""
    return _DAYS[number % DAY_COUNT + later]


def moment(number: int, later: int = 0, zone: str = "+00") -> str:
    """Return a point of time from 2017 to mid-2023, ``later`` days later at the same time, with its zone, as text."""
    return _DAYS[number % DAY_COUNT + later] + _clock()[number >> 12 & _CLOCK_MASK] + zone


class _Rows:
    """A readable file over rows: what psycopg2's COPY reads from, a batch at a time."""

    def __init__(self, rows: Iterable[Sequence[str]], heard: Callable[[int], None]) -> None:
        self._rows = iter(rows)
        self._heard = heard
        self.done = 0

    def read(self, size: int) -> bytes:  # noqa: ARG002 - psycopg2 sends whatever it is given
        """Return the next rows in COPY's text format, nothing at the end."""
        batch = list(islice(self._rows, _BATCH))
        if not batch:
            return b""
        self.done += len(batch)
        if self.done % _TOLD_EVERY == 0:
            self._heard(self.done)
        return ("\n".join(map("\t".join, batch)) + "\n").encode()


def copy(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    total: int | None = None,
    progress: Progress | None = None,
) -> int:
    r"""Stream rows into a table through COPY; return how many.

    Values are COPY's text format already (``NULL`` for NULL; tab, newline and backslash escaped).
    Raises psycopg2's error where the server rejects a row.
    """

    def heard(done: int) -> None:
        if progress is not None:
            progress(table, done, total, "rows")

    source = _Rows(rows, heard)
    names = ", ".join(quote(column) for column in columns)
    with raw_connection(connection).cursor() as cursor:
        cursor.copy_expert(f"COPY {quote(table)} ({names}) FROM STDIN", cast("TextIO", source))
    if source.done % _TOLD_EVERY or not source.done:
        heard(source.done)
    return source.done


def escaped(text: str) -> str:
    """Return text as COPY's text format wants it."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
