"""From one COPY to another: bytes through a bounded queue, so that memory stays flat whatever the size.

A row is the least that libpq and psycopg2 hand over: one of 200 MB takes three times that while it passes.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.extensions
from sqlalchemy.exc import DBAPIError

from rollout.database import first_line, lift_limits, sqlstate
from rollout.errors import DatabaseUnavailable, LockNotAcquired, PreflightFailed
from rollout.messages import say
from rollout.settings import SOURCE_KEY
from rollout.transaction import DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

_CHUNK = 1 << 18
_CHUNKS = 16
_WAIT_SECONDS = 0.1
_PART_OF_BUFFER = 4
_LEAST = 1 << 12
_NO_LINGERING = struct.pack("ii", 1, 0)


class Abandoned(Exception):
    """The other side has gone."""


class Pipe:
    """A file for COPY TO to write, and what COPY FROM reads (``_Outlet``), each in a thread of its own.

    An error on one side ends the other. ``rows`` and ``bytes`` count what went in; ``error`` is what ended the writer;
    ``waited`` how many seconds the reader had nothing to read.
    """

    def __init__(self) -> None:
        """Begin empty."""
        # COPY writes a row at a time, and the end of its format on its own.
        self.rows = -1
        self.bytes = 0
        self.error: BaseException | None = None
        self.waited = 0.0
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_CHUNKS)
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._abandoned = threading.Event()
        self._ended = False

    def write(self, data: bytes) -> int:
        """Take one row; wait while the reader is behind."""
        self.bytes += len(data)
        self.rows += 1
        if len(data) > _CHUNK:
            self._pass_on(data)
            return len(data)
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= _CHUNK:
            self._flush()
        return len(data)

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more will come, and why."""
        self.error = error
        with suppress(Abandoned):
            if error is None:
                self._flush()
            self._put(None)

    def abandon(self) -> None:
        """Make both sides stop where they are."""
        self._abandoned.set()

    def read(self, heed: Callable[[], None] = lambda: None) -> bytes:
        """Give the next chunk, nothing at the end; raise where the writer failed, so that COPY FROM fails too.

        ``heed`` is called now and then while there is none, and may raise.
        """
        begin = time.monotonic()
        while not self._ended:
            with suppress(queue.Empty):
                chunk = self._chunks.get(timeout=_WAIT_SECONDS)
                self._ended = chunk is None
                self.waited += time.monotonic() - begin
                if chunk:
                    return chunk
            self.go_on()
            heed()
        return b""

    def go_on(self) -> None:
        """Raise ``Abandoned`` where the writer failed, or nobody wants the rows any more."""
        if self._abandoned.is_set() or self.error is not None:
            raise Abandoned

    def _pass_on(self, data: bytes) -> None:
        """Pass on a large row in pieces, so that no more of it waits here than of others, and libpq sends it so too."""
        self._flush()
        for start in range(0, len(data), _CHUNK):
            self._put(data[start : start + _CHUNK])

    def _flush(self) -> None:
        if self._buffer:
            self._put(b"".join(self._buffer))
            self._buffer.clear()
            self._buffered = 0

    def _put(self, chunk: bytes | None) -> None:
        while not self._abandoned.is_set():
            with suppress(queue.Full):
                self._chunks.put(chunk, timeout=_WAIT_SECONDS)
                return
        raise Abandoned


class _Outlet:
    """A pipe as the file that COPY FROM reads: no more at once than the connection takes, so that a refusal is seen.

    In the middle of COPY FROM a server answers to refuse only, and libpq does not tell before all is sent. Where libpq
    has to wait in sending, it reads the answer itself; so that it never does, this waits in its stead.
    https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
    """

    def __init__(self, pipe: Pipe, end: socket.socket) -> None:
        """Read ``pipe``, to be sent by ``end``."""
        self._pipe = pipe
        self._end = end
        self._rest = memoryview(b"")

    def read(self, size: int = _CHUNK, /) -> bytes:
        """Give the next piece, nothing at the end; raise ``Abandoned`` where the server answers, or the pipe ends."""
        if not self._rest:
            self._rest = memoryview(self._pipe.read(self._heed))
        while not self._is_free(_WAIT_SECONDS):
            self._pipe.go_on()
        # Linux calls a socket writable when a third of its buffer is free, or more; the buffer grows with its use.
        buffer = self._end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        size = min(size, max(buffer // _PART_OF_BUFFER, _LEAST))
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)

    def readline(self, size: int = 0, /) -> bytes:
        """Exist for psycopg2's idea of a file; COPY does not call it."""
        raise NotImplementedError

    def _heed(self) -> None:
        self._is_free(0)

    def _is_free(self, seconds: float) -> bool:
        """Wait until the connection takes more; raise ``Abandoned`` where the server has answered."""
        answered, free, _ = select.select([self._end], [self._end], [], seconds)
        if answered:
            raise Abandoned
        return bool(free)


@contextmanager
def session(engine: Engine) -> Iterator[Connection]:
    """Yield a connection; at the end it is rolled back and closed, also where the server is gone."""
    with engine.connect() as connection:
        try:
            yield connection
        finally:
            try:
                connection.rollback()
            except DBAPIError:
                connection.invalidate()


def take_time(connection: Connection) -> None:
    """Lift the limits that a database or a role has on long statements and transactions, for this transaction."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    lift_limits(connection)


def compress_by_lz4(connection: Connection) -> None:
    """Have this transaction's large values compressed by lz4, at a tenth of the cost, where the server has it (14+).

    https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-DEFAULT-TOAST-COMPRESSION
    """
    connection.exec_driver_sql(
        "SELECT set_config(name, 'lz4', true) FROM pg_settings"
        " WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"
    )


def hang_up(raw: psycopg2.extensions.connection) -> None:
    """End a connection that another thread waits on; to that it looks as if the server went away.

    psycopg2's ``cancel`` would hold up the whole process where the network is silent: it waits for an answer, with
    Python's lock. Closed without lingering, the connection is reset: else a server that waits to send more waits for
    minutes, with its snapshot and its locks, where what it had sent is read to the end before.
    """
    with suppress(psycopg2.Error, OSError), _socket(raw) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        end.shutdown(socket.SHUT_RDWR)


def _socket(raw: psycopg2.extensions.connection) -> socket.socket:
    """Return the socket of a connection, to be closed for itself."""
    return socket.socket(fileno=os.dup(raw.fileno()))


def copy_out(raw: psycopg2.extensions.connection, query: str, pipe: Pipe) -> None:
    """Send the rows of a query into the pipe, in COPY's binary format; what goes wrong ends up in ``pipe.error``."""
    try:
        with raw.cursor() as cursor:
            cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", pipe)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other side has to hear of it
        pipe.end(error)
    else:
        pipe.end()


def copy_in(raw: psycopg2.extensions.connection, target: str, pipe: Pipe) -> int:
    """Read the pipe into ``target`` (table and columns, as SQL); return the number of rows, not yet committed.

    The table was made in this transaction: once that is committed, its rows are in every snapshot, older ones too.
    https://www.postgresql.org/docs/current/sql-copy.html (FREEZE)
    """
    with raw.cursor() as cursor, _socket(raw) as end:
        cursor.copy_expert(f"COPY {target} FROM STDIN (FORMAT binary, FREEZE)", _Outlet(pipe, end), _CHUNK)
        return int(cursor.rowcount)


def unreadable(table: str, error: BaseException) -> PreflightFailed | DatabaseUnavailable | LockNotAcquired:
    """Say why a source table cannot be read: a server that went away, a lock that does not come, a missing right."""
    state = sqlstate(error)
    if state in {LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED}:
        return LockNotAcquired(
            say("a table of the source is locked by another session ({tables})", tables=table),
            hint=say("Wait until that session has ended (pg_stat_activity on the source), then run this again."),
        )
    if state is None or state.startswith(("08", "57P")):
        return gone(table, error)
    return PreflightFailed(
        say("table {table} of the source cannot be read: {reason}", table=table, reason=first_line(error)),
        hint=say(
            "Mend what the server names; the user of {key} needs SELECT on its tables, and BYPASSRLS or a policy that"
            " shows every row where they have row security.",
            key=SOURCE_KEY,
        ),
    )


def gone(table: str, error: BaseException) -> DatabaseUnavailable:
    """Return the error for a source that went away."""
    return DatabaseUnavailable(
        say("the source went away while {table} was read: {reason}", table=table, reason=first_line(error)),
        hint=say("Check that the server of {key} runs, then run this again; the target is as it was.", key=SOURCE_KEY),
    )
