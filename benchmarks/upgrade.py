"""``tool migrate`` against the same SQL run by ``psql -1``, on copies of one legacy database; backup not counted."""

from __future__ import annotations

import tempfile
from pathlib import Path

from databases import create_legacy, environment, run_sql
from measuring import BIN, Measured, compare, timed, within

from rollout import plan, preview
from rollout.adopt import baseline_objects
from rollout.embedded import EmbeddedServer

RATIO, MEMORY = 1.5, 200.0


def measure(*, users: int, rounds: int) -> bool:
    """Fill a legacy database once, then upgrade copies of it in turns."""
    with tempfile.TemporaryDirectory() as scratch, EmbeddedServer(options={"shared_buffers": "512MB"}) as server:
        create_legacy(server, "legacy", users=users)
        run_sql(server, "legacy", "VACUUM ANALYZE")
        script = Path(scratch) / "upgrade.sql"
        script.write_text(_script(), encoding="utf-8")
        ours: list[Measured] = []
        theirs: list[Measured] = []
        for _ in range(rounds):
            theirs.append(_on_copy(server, scratch, ["psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", script]))
            ours.append(_on_copy(server, scratch, [BIN / "tool", "migrate", "--no-backup", "--yes"]))
    print(f"{users} users, {users} cases")
    fast = compare("tool migrate / psql -1", ours, theirs, RATIO)
    small = within("memory of tool migrate", max(one.peak for one in ours) / 2**20, MEMORY, "MiB")
    return fast and small


def _script() -> str:
    """Return the SQL of the whole upgrade of a clean legacy database, without its own BEGIN and COMMIT."""
    first, last = plan.history()[0].id, plan.history()[-1].id
    sql = preview.sql_of(plan.make(first, last), frozenset(key for key, _ in baseline_objects()))
    return "\n".join(line for line in sql.splitlines() if line not in {"BEGIN;", "COMMIT;"})


def _on_copy(server: EmbeddedServer, scratch: str, command: list[str | Path]) -> Measured:
    """Run a command on a fresh copy of the legacy database."""
    run_sql(server, "postgres", "DROP DATABASE IF EXISTS copy", "CREATE DATABASE copy TEMPLATE legacy", "CHECKPOINT")
    copy = server.server("copy")
    programs = {"psql": server.bin / "psql"}
    command = [programs.get(str(command[0]), command[0]), *command[1:]]
    return timed(command, environment(server, "copy", scratch) | copy.environment())
