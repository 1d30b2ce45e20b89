"""The copying of a source beside the merge: of large tables, parts are copied while others are merged.

The transaction, and with it its locks, begins when merging takes longer than the rest of the copying (docs/adr/0010).
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from datamigrations.pipe import hang_up
from datamigrations.staging import copy, parts_of
from rollout import interrupt
from rollout.errors import ROLLED_BACK, UNTOUCHED, Interrupted, ReconciliationFailed, RolloutError
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    import psycopg2

    from datamigrations.source import Source, SourceTable
    from datamigrations.staging import Part
    from rollout.memory import Session
    from rollout.run import Run

_POLL_SECONDS = 0.2

_CHEAP_SECONDS = 50e-6
"""A row of a large table that one COPY takes less time for is longer in the merge."""
_ENOUGH_ROWS = 5_000
"""After how many rows that is known."""


class Pipeline:
    """The copying of a source's tables, on threads of its own; a part of a table can be had as soon as it is there."""

    def __init__(self, owner: Session, source: Source, run: Run, workers: int) -> None:
        """Plan it, ``workers`` COPYs at a time: what is not divided first, then parts in the order of the merge."""
        self.source = source
        self.run = run
        self.workers = workers
        self._engine = owner.engine
        self._merging = False
        parts = [part for name in source.tables for part in parts_of(source, name, owner.own)]
        parts.sort(key=lambda part: (part.source.parts > 1, -part.source.bytes if part.source.parts == 1 else 0))
        self._parts = parts
        self._turn = threading.Condition()
        self._to_come = deque(parts)
        self._copying = 0
        self._merge_can_begin = False
        self._stopped = False
        self._told: set[str] = set()
        self._workers: list[Future[None]] = []
        self._sessions: list[psycopg2.extensions.connection] = []

    def start(self, pool: ThreadPoolExecutor) -> None:
        """Begin."""
        for _ in range(self.workers):
            self._workers.append(pool.submit(self._work))

    def _work(self) -> None:
        """Copy parts, one after the other, from a session of the source that has its locks from the beginning."""
        with self.source.session(self._parts[0].name, self._opened) as there:
            while (part := self._next()) is not None:
                rows = None
                try:
                    rows = copy(self.source, part, there, self._engine)
                    if part.source.part + 1 == part.source.parts > 1:
                        part.whole = self.source.count(part.name, there)
                finally:
                    with self._turn:
                        self._copying -= 1
                        part.copied = rows
                        self._decide()
                        self._turn.notify_all()

    def _next(self) -> Part | None:
        """Return the next part when it is its turn, None where there is none: beside the merge, one COPY less goes on.

        That is decided here and not by who merges: a worker would have taken its next part before that one looks.
        """
        with self._turn:
            self._turn.wait_for(
                lambda: self._stopped or not self._to_come or self._copying < self.workers - self._merge_can_begin
            )
            if self._stopped or not self._to_come:
                return None
            self._copying += 1
            return self._to_come.popleft()

    def _opened(self, there: psycopg2.extensions.connection) -> None:
        """Remember a session, to hang up at the end; at once where that has come."""
        with self._turn:
            self._sessions.append(there)
            if self._stopped:
                hang_up(there)

    def stop(self) -> None:
        """End what is still being copied, counted, or opened."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()
            for part in self._parts:
                part.abandon()
            for there in self._sessions:
                hang_up(there)

    def wait_for_merge(self) -> int:
        """Wait until merging can begin; return how many rows have come.

        Raises ``DatabaseUnavailable`` where the source goes away, ``MigrationFailed`` where the target does not take
        the rows, ``Interrupted``.
        """
        with interrupt.heeding():
            try:
                self._wait(self._decide)
            except KeyboardInterrupt:
                raise Interrupted(database=UNTOUCHED) from None
        self._merging = True
        return sum(part.rows for part in self._parts)

    @property
    def is_complete(self) -> bool:
        """Tell whether all has been copied."""
        return all(part.copied is not None for part in self._parts)

    def parts(self, name: str) -> Iterator[tuple[SourceTable, int]]:
        """Yield the parts of a table, and how many rows each has, as they come; raises what ``wait_for_merge`` raises.

        ``ReconciliationFailed`` where they do not make up the whole.
        """
        parts = [part for part in self._parts if part.name == name]
        rows = 0
        for part in parts:
            copied = self._wait_for(part)
            rows += copied
            yield part.source, copied
        if len(parts) > 1 and rows != parts[-1].whole:
            raise _incomplete(name, rows, parts[-1].whole)

    def _decide(self) -> bool:
        """Tell whether merging can begin, once for all."""
        self._merge_can_begin = self._merge_can_begin or self._may_merge()
        return self._merge_can_begin

    def _may_merge(self) -> bool:
        """Tell whether all is there, or so much that the merge will hardly wait for the rest.

        That is all small tables; and half of the parts of large ones, unless their rows are cheap to copy. Where the
        source is slow, or the way to it, other sessions would wait for our locks meanwhile.
        """
        missing = [part for part in self._parts if part.copied is None]
        if not missing:
            return True
        large = [part for part in self._parts if part.source.parts > 1 and part.begun is not None]
        if self.workers == 1 or any(part.source.parts == 1 for part in missing) or _source_is_slow(large):
            return False
        return sum(part.copied is not None for part in large) >= len(missing) or _rows_are_cheap(large)

    def _wait_for(self, part: Part) -> int:
        """Wait until a part is there; return how many rows it has."""
        self._wait(lambda: part.copied is not None)
        return part.copied or 0

    def _wait(self, ended: Callable[[], bool]) -> None:
        """Wait, telling how far the copying is; raise its first failure."""
        while True:
            try:
                for worker in self._workers:
                    if worker.done():
                        worker.result()
            except RolloutError as error:
                error.database = ROLLED_BACK if self._merging else error.database
                raise
            self._tell()
            with self._turn:
                if ended():
                    return
                self._turn.wait(_POLL_SECONDS)

    def _tell(self) -> None:
        """Tell how far the copying is; of a table that is there, once more."""
        for name, table in self.source.tables.items():
            parts = [part for part in self._parts if part.name == name]
            here = sum(part.rows for part in parts)
            if here and name not in self._told:
                self.run.listener.progress(f"copy {name}", here, table.rows, "rows")
            if all(part.copied is not None for part in parts):
                self._told.add(name)
        total = sum(pipe.bytes for part in self._parts for pipe in part.pipes)
        self.run.listener.progress("copy", total, None, "bytes")


def _incomplete(name: str, rows: int, whole: int | None) -> ReconciliationFailed:
    """Return the error for parts that do not make up the whole."""
    return ReconciliationFailed(
        say("{rows} rows of {table} were staged, the source has {whole}", table=name, rows=rows, whole=whole),
        hint=say("Run this again with one job; nothing of the target was touched."),
    )


def _source_is_slow(parts: Iterable[Part]) -> bool:
    """Tell whether the copying of parts has waited for the source most of the time."""
    return any(part.waited > part.seconds / 2 for part in parts)


def _rows_are_cheap(parts: Iterable[Part]) -> bool:
    """Tell whether the rows of parts are copied faster than they will be merged."""
    rows = sum(part.rows for part in parts)
    return rows >= _ENOUGH_ROWS and sum(part.seconds for part in parts) / rows < _CHEAP_SECONDS


@contextmanager
def begun(owner: Session, source: Source, run: Run, *, workers: int) -> Iterator[Pipeline]:
    """Copy every table of the source into the staging area while the block runs; what is not there at its end is left.

    Holds a few megabytes a worker, and one row.
    """
    pipeline = Pipeline(owner, source, run, workers)
    with ThreadPoolExecutor(workers) as pool:
        try:
            pipeline.start(pool)
            yield pipeline
        finally:
            pipeline.stop()
