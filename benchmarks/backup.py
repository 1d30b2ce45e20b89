"""``tool backup create`` against plain pg_dump, its proof against plain pg_restore; same jobs, same compression.

Two databases: pages of some kB, which cost pg_dump much and a fingerprint little, and Lawsker's narrow rows, the other
way round: there every core that the fingerprints take is one that pg_dump does without. Each with gzip as pg_dump takes
it when nobody says otherwise (6), and as the tool does (1), with which a dump takes half as long.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from databases import create_legacy, create_pagtive, environment, run_sql
from measuring import BIN, Measured, compare, timed, told, within

from rollout.database import engine_for
from rollout.embedded import EmbeddedServer

CREATE_RATIO, PROOF_RATIO, MEMORY = 1.1, 1.3, 200.0
JOBS = "2"
_USERS_PER_WRITER = 60


def measure(*, users: int, rounds: int) -> bool:
    """Fill a database of each kind once; dump it, and restore the dump, in turns with the tool."""
    with EmbeddedServer(options={"shared_buffers": "512MB"}) as server:
        create_legacy(server, "legacy", users=users)
        create_pagtive(server, "pages", users=users // _USERS_PER_WRITER)
        results = [_compare(server, dbname, level, rounds) for dbname in ("pages", "legacy") for level in (6, 1)]
    return all(results)


def _compare(server: EmbeddedServer, dbname: str, level: int, rounds: int) -> bool:
    """Measure one database with one level of gzip; tell whether all limits hold."""
    run_sql(server, dbname, "VACUUM ANALYZE")
    with tempfile.TemporaryDirectory() as scratch:
        figures = [_round(server, dbname, level, Path(scratch) / str(number)) for number in range(rounds)]
    print(f"{dbname}: {_size(server, dbname) // 2**20} MiB, -j {JOBS}, gzip {level}")
    plain, created, inside, restored, proven, proof_inside = zip(*figures, strict=True)
    results = [
        compare("backup create --no-proof / pg_dump -Fd", list(created), list(plain), CREATE_RATIO),
        compare("its step `backup` / pg_dump -Fd", list(inside), list(plain), CREATE_RATIO),
        compare("backup verify / pg_restore", list(proven), list(restored), PROOF_RATIO),
        compare("its steps `restore`, `compare` / pg_restore", list(proof_inside), list(restored), PROOF_RATIO),
        within("memory", max(one.peak for one in (*created, *proven)) / 2**20, MEMORY, "MiB"),
    ]
    return all(results)


def _size(server: EmbeddedServer, dbname: str) -> int:
    """Return the size of a database in bytes."""
    with engine_for(server.server(dbname)).connect() as connection:
        return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())


def _round(server: EmbeddedServer, dbname: str, level: int, here: Path) -> tuple[Measured, ...]:
    """Measure once: pg_dump, create, its own step, pg_restore, verify, its own steps."""
    ours = environment(server, dbname, here)
    here.mkdir()
    dump = [server.bin / "pg_dump", "-Fd", f"-j{JOBS}", f"-Z{level}", "-f", here / "plain"]
    plain = timed(dump, server.server(dbname).environment())
    run_sql(server, "postgres", "CHECKPOINT")
    create = [BIN / "tool", "backup", "create", "--no-proof", "--json"]
    create += ["--compress", f"gzip:{level}"] if level > 1 else []
    created, inside = _told(create, ours, {"backup"})
    backup = next((here / "backups").iterdir())
    sizes = [sum(file.stat().st_size for file in dump.iterdir()) for dump in (backup / "dump", here / "plain")]
    print(f"  {sizes[0] / 1e6:.0f} MB, plain {sizes[1] / 1e6:.0f} MB")
    shutil.rmtree(here / "plain")
    run_sql(server, "postgres", "CREATE DATABASE plain TEMPLATE template0", "CHECKPOINT")
    restore = [server.bin / "pg_restore", f"-j{JOBS}", "-d", "plain", backup / "dump"]
    restored = timed(restore, server.server("plain").environment())
    run_sql(server, "postgres", "DROP DATABASE plain", "CHECKPOINT")
    proven, proof = _told([BIN / "tool", "backup", "verify", str(backup), "--json"], ours, {"restore", "compare"})
    run_sql(server, "postgres", "CHECKPOINT")
    shutil.rmtree(here)
    return plain, created, inside, restored, proven, proof


def _told(command: list[str | Path], environment: dict[str, str], steps: set[str]) -> tuple[Measured, Measured]:
    """Measure a command, and what it says itself of some of its steps."""
    values, whole = told(command, environment)
    own = sum(step["seconds"] for step in values["steps"] if step["name"] in steps)
    return whole, Measured(own, whole.peak)
