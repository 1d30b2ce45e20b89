"""The copying of a source beside the merge: of large tables, parts are copied while others are merged.

The transaction, and with it its locks, begins when half of the parts are there (docs/adr/0010).
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING

from datamigrations.staging import copy, parts_of
from rollout import interrupt
from rollout.database import raw_connection
from rollout.errors import ROLLED_BACK, UNTOUCHED, Interrupted, ReconciliationFailed, RolloutError
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Engine

    from datamigrations.source import Source, SourceTable
    from datamigrations.staging import Part
    from rollout.memory import Session
    from rollout.run import Run

_POLL_SECONDS = 0.2


class Pipeline:
    """The copying of a source's tables, on threads of its own; a part of a table can be had as soon as it is there."""

    def __init__(self, owner: Session, source: Source, run: Run, pool: ThreadPoolExecutor, workers: int) -> None:
        """Begin, ``workers`` COPYs at a time: what is not divided first, then parts in the order of the merge."""
        self.source = source
        self.run = run
        self.workers = workers
        self._own = owner.own
        self._merging = False
        parts = [part for name in source.tables for part in parts_of(source, name, owner.own)]
        parts.sort(key=lambda part: (part.source.parts > 1, -part.source.bytes if part.source.parts == 1 else 0))
        self._turn = threading.Condition()
        self._copying = 0
        self._stopped = False
        self._told: set[str] = set()
        self._parts = {pool.submit(self._in_turn, part, owner.engine): part for part in parts}

    def _in_turn(self, part: Part, engine: Engine) -> int:
        """Copy one part when it is its turn: while the merge is at work, one COPY less is."""
        with self._turn:
            self._turn.wait_for(lambda: self._stopped or self._copying < self.workers - self._merging)
            self._copying += 1
        try:
            return 0 if self._stopped else copy(self.source, part, engine)
        finally:
            with self._turn:
                self._copying -= 1
                self._turn.notify_all()

    def stop(self) -> None:
        """End what is still being copied."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()
        for future, part in self._parts.items():
            future.cancel()
            part.abandon()

    def wait_for_merge(self) -> int:
        """Wait until merging can begin; return how many rows have come.

        Raises ``DatabaseUnavailable`` where the source goes away, ``MigrationFailed`` where the target does not take
        the rows, ``Interrupted``.
        """
        # SIGTERM becomes KeyboardInterrupt, as Ctrl-C is; the connection that is watched has nothing to cancel.
        with interrupt.cancelling(raw_connection(self._own)):
            try:
                self._wait(self._may_merge)
            except KeyboardInterrupt:
                raise Interrupted(database=UNTOUCHED) from None
        self._merging = True
        return sum(part.rows for part in self._parts.values())

    @property
    def is_complete(self) -> bool:
        """Tell whether all has been copied."""
        return all(future.done() for future in self._parts)

    def parts(self, name: str) -> Iterator[tuple[SourceTable, int]]:
        """Yield the parts of a table, and how many rows each has, as they come; raises what ``wait_for_merge`` raises.

        ``ReconciliationFailed`` where they do not make up the whole.
        """
        futures = {future: part for future, part in self._parts.items() if part.name == name}
        rows = 0
        for future, part in futures.items():
            self._wait(future.done)
            rows += future.result()
            yield part.source, future.result()
        if len(futures) > 1:
            self._complete(name, rows)

    def _may_merge(self) -> bool:
        """Tell whether merging can begin: all is there, or half of the parts of large tables and all others.

        The other half takes about as long as merging the first one, where the target is what the copying waits for.
        Where the source is slow, or the way to it, other sessions would wait for our locks meanwhile.
        """
        missing = [part for future, part in self._parts.items() if not future.done()]
        if not missing:
            return True
        come = [part for future, part in self._parts.items() if future.done() and part.source.parts > 1]
        if self.workers == 1 or len(come) < len(missing) or any(part.source.parts == 1 for part in missing):
            return False
        return not _source_is_slow(come)

    def _wait(self, ended: Callable[[], bool]) -> None:
        """Wait, telling how far the copying is; raise its first failure."""
        while True:
            done, pending = wait(self._parts, timeout=0)
            try:
                for future in done:
                    future.result()
            except RolloutError as error:
                error.database = ROLLED_BACK if self._merging else error.database
                raise
            self._tell(done)
            if ended():
                return
            wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)

    def _tell(self, done: set[Future[int]]) -> None:
        """Tell how far the copying is; of a table that is there, once more."""
        for name, table in self.source.tables.items():
            parts = {future: part for future, part in self._parts.items() if part.name == name}
            here = sum(part.rows for part in parts.values())
            if here and name not in self._told:
                self.run.listener.progress(f"copy {name}", here, table.rows, "rows")
            if parts.keys() <= done:
                self._told.add(name)
        total = sum(pipe.bytes for part in self._parts.values() for pipe in part.pipes)
        self.run.listener.progress("copy", total, None, "bytes")

    def _complete(self, name: str, rows: int) -> None:
        """Check that the parts of a table make up the whole; raise ``ReconciliationFailed``."""
        whole = self.source.count(name)
        if rows != whole:
            raise ReconciliationFailed(
                say("{rows} rows of {table} were staged, the source has {whole}", table=name, rows=rows, whole=whole),
                hint=say("Run this again with one job; nothing of the target was touched."),
            )


def _source_is_slow(parts: Iterable[Part]) -> bool:
    """Tell whether the copying of parts has waited for the source most of the time."""
    return any(sum(pipe.waited for pipe in part.pipes) > part.seconds / 2 for part in parts)


@contextmanager
def begun(owner: Session, source: Source, run: Run, *, workers: int) -> Iterator[Pipeline]:
    """Copy every table of the source into the staging area while the block runs; what is not there at its end is left.

    Holds a few megabytes a worker, and one row.
    """
    with ThreadPoolExecutor(workers) as pool:
        pipeline = Pipeline(owner, source, run, pool, workers)
        try:
            yield pipeline
        finally:
            pipeline.stop()
