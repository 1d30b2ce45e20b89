"""``tool verify`` in seconds, and ``tool verify --deep`` against COPY of the same tables to nowhere."""

from __future__ import annotations

import statistics
import tempfile

from databases import create_legacy, environment, run_sql
from measuring import BIN, compare, timed, within

from rollout import adopt, plan
from rollout.embedded import EmbeddedServer

SECONDS, RATIO, MEMORY = 10.0, 3.0, 150.0

READ = ("roles", "user_roles")
"""Tables that the checks read whole besides those that are fingerprinted."""


def measure(*, users: int, rounds: int) -> bool:
    """Upgrade a legacy database once; verify it, copy it to nowhere and verify it deeply, in turns."""
    with tempfile.TemporaryDirectory() as scratch, EmbeddedServer(options={"shared_buffers": "512MB"}) as server:
        create_legacy(server, "legacy", users=users)
        database = server.server("legacy")
        ours = environment(server, "legacy", scratch)
        timed([BIN / "tool", "migrate", "--no-backup", "--yes"], ours)
        run_sql(server, "legacy", "VACUUM ANALYZE")
        tables = [*adopt.WRITTEN, *adopt.our_tables(plan.history()[-1].id), *READ]
        copies = [part for table in tables for part in ("-c", f"COPY public.{table} TO '/dev/null'")]
        copy = [server.bin / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *copies]
        plain, copied, deep = [], [], []
        for _ in range(rounds):
            plain.append(timed([BIN / "tool", "verify"], ours))
            copied.append(timed(copy, database.environment()))
            deep.append(timed([BIN / "tool", "verify", "--deep"], ours))
    print(f"{users} users, {users} cases")
    results = (
        within("tool verify", statistics.median(one.seconds for one in plain), SECONDS, "s"),
        compare("tool verify --deep / COPY TO '/dev/null'", deep, copied, RATIO),
        within("memory", max(one.peak for one in (*plain, *deep)) / 2**20, MEMORY, "MiB"),
    )
    return all(results)
