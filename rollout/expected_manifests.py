"""Write ``rollout/expected/``: upgrade an empty database revision by revision and note what the catalogs say.

``python -m rollout.expected_manifests`` (``make expected``) uses the embedded server; ``--check`` only tells whether
the files are up to date. ``--variant`` takes the empty database of ``DATABASE_URL``, and writes down where that
server's major describes the same objects in other words.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from alembic import command
from sqlalchemy import text

from rollout import catalog, manifest, plan
from rollout.database import engine_for, raw_connection
from rollout.embedded import EmbeddedServer
from rollout.settings import load

if TYPE_CHECKING:
    from rollout.catalog import Catalog
    from rollout.settings import Server

SEEDS = {"lawyer_levels": "level", "enterprise_service_packages": "package_type", "demo_accounts": "workspace_id"}
NOT_SEEDED = ("id", "created_at", "updated_at")


def generate(server: Server) -> dict[str, dict[str, Any]]:
    """Upgrade an empty database (it is rolled back); return each file's name and content, ``seeds.json`` too."""
    files: dict[str, dict[str, Any]] = {}
    with engine_for(server).connect() as connection:
        connection.begin()
        before: Catalog = catalog.read(connection)
        connection.exec_driver_sql(_MEMORY)
        for revision in plan.history():
            config = plan.alembic_config()
            config.attributes |= {"connection": connection, "preexisting": frozenset()}
            command.upgrade(config, revision.id)
            after = catalog.read(connection)
            files[f"{revision.id}.json"] = {"family": revision.family, **manifest.delta(before, after)}
            before = after
        files["seeds.json"] = {table: _seeds(connection, table, key) for table, key in SEEDS.items()}
        files["_major"] = {"major": raw_connection(connection).server_version // 10_000}
    return files


# env.py's hook notes applied revisions; nothing else of our memory is needed here.
_MEMORY = """
CREATE SCHEMA rollout;
CREATE TABLE rollout.applied_revisions (revision text PRIMARY KEY, family text, file_name text, file_sha256 text);
"""


def _seeds(connection: Any, table: str, key: str) -> dict[str, Any]:
    """Return a seed table's rows without the columns that differ from database to database."""
    rows = connection.execute(text(f"SELECT to_jsonb(t) FROM {table} t ORDER BY {key}")).scalars()
    return {"key": key, "rows": [{k: v for k, v in row.items() if k not in NOT_SEEDED} for row in rows]}


def text_of(content: dict[str, Any]) -> str:
    """Return a file's text."""
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def write(files: dict[str, dict[str, Any]], *, check: bool) -> list[str]:
    """Write the files (or only compare them, ``check``); return the names of those that were not up to date.

    Variants of other majors, which only their servers can tell, are kept.
    """
    stale = []
    contents = {name: content for name, content in files.items() if name != "_major"}
    for name, content in contents.items():
        path = manifest.EXPECTED / name
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        wanted = {**content, "variants": old["variants"]} if "variants" in old else content
        if old != wanted:
            stale.append(name)
            if not check:
                path.write_text(text_of(wanted), encoding="utf-8")
    for path in manifest.EXPECTED.glob("*.json"):
        if path.name not in contents:
            stale.append(path.name)
            if not check:
                path.unlink()
    return stale


def write_variants(files: dict[str, dict[str, Any]], *, check: bool = False) -> list[str]:
    """Note where this server's major words a definition differently; return the names of files that changed."""
    major = str(files["_major"]["major"])
    stale = []
    for name, content in files.items():
        path = manifest.EXPECTED / name
        if name in {"_major", "seeds.json"}:
            continue
        old = json.loads(path.read_text(encoding="utf-8"))
        variant = {
            part: {key: values for key, values in content[part].items() if old[part].get(key) != values}
            for part in ("added", "changed")
        }
        variants = {k: v for k, v in old.get("variants", {}).items() if k != major}
        if any(variant.values()):
            variants[major] = {part: values for part, values in variant.items() if values}
        new = {**{k: v for k, v in old.items() if k != "variants"}, **({"variants": variants} if variants else {})}
        if new != old:
            stale.append(name)
            if not check:
                path.write_text(text_of(new), encoding="utf-8")
    return stale


def main(arguments: list[str]) -> int:
    """Run as a program; 1 where ``--check`` found files that are not up to date."""
    check = "--check" in arguments
    if "--variant" in arguments:
        stale = write_variants(generate(load().target), check=check)
    else:
        with EmbeddedServer() as server:
            stale = write(generate(server.server("postgres")), check=check)
    for name in stale:
        sys.stdout.write(f"{'not up to date' if check else 'written'}: rollout/expected/{name}\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
