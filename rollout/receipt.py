"""The receipt of a rollback: what goes, what is in it, who put it there, and who else depends on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout import manifest, memory, own_rows, plan
from rollout.catalog import read
from rollout.database import identifier, quote, server_major
from rollout.errors import UNTOUCHED, RollbackFailed
from rollout.findings import Finding
from rollout.messages import say
from rollout.shelf.entries import CONSTANT, going_columns

if TYPE_CHECKING:
    from sqlalchemy import Connection

_DEPENDENTS = Path(__file__).parent / "sql" / "dependents.sql"
_RIGHTS = Path(__file__).parent / "sql" / "rights.sql"


@dataclass(frozen=True)
class Going:
    """One object that a rollback takes away.

    ``rows``: rows of a table, values other than NULL of a column; ``entered``: those that people entered or changed
    since the upgrade, the others are as the upgrade made them; ``shelved``: whether they are kept on the shelf;
    ``missing``: whether somebody else has taken it away already.
    """

    object: str
    rows: int = 0
    entered: int = 0
    shelved: bool = False
    missing: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it as cli.md's receipt has it."""
        return {**asdict(self), "made_by_upgrade": self.rows - self.entered}


def take(connection: Connection, steps: plan.Plan, *, shelve: bool) -> list[Going]:
    """Return every object that goes, and the rows that we made in tables that were there before us.

    Reads each table once. A value of a column counts as entered where its row was written since, and the value is not
    the column's default.
    """
    preexisting = memory.preexisting(connection)
    made = own_rows.condition(connection)
    columns: dict[str, list[str]] = {}
    for (table, _), names in going_columns(connection, steps).items():
        columns.setdefault(table, []).extend(names)
    values = {
        f"column {table}.{column}": counts
        for table, names in columns.items()
        for column, counts in _values(connection, table, names, made).items()
    }
    going, there = [], read(connection)
    for key in keys(connection, steps):
        kind, _, name = key.partition(" ")
        rows, entered = values.get(key, (0, 0))
        if kind == "table":
            rows, entered = _rows(connection, name, made)
        going.append(Going(key, rows, entered, shelve and rows > 0, key not in there))
    kept = own_rows.in_kept_tables(connection, steps, preexisting)
    return [*going, *(Going(f"rows of {table}", rows) for table, rows in kept)]


def keys(connection: Connection, steps: plan.Plan) -> list[str]:
    """Return the objects (manifest keys) that these revisions, going down, take away."""
    preexisting = memory.preexisting(connection)
    there = manifest.at([one.id for one in plan.up_to(steps.start)], major=server_major(connection))
    made = there.of_revisions([one.id for one in steps.revisions])
    return [key for key, _ in made if not there.was_there(key, preexisting)]


def _rows(connection: Connection, table: str, made: str) -> tuple[int, int]:
    """Count a table's rows, and those that people entered or changed; none where the table is missing."""
    if not plan.existing_tables(connection, [table]):
        return 0, 0
    row = connection.exec_driver_sql(
        f"SELECT count(*), count(*) FILTER (WHERE NOT {made}) FROM {quote('public', table)} AS t"
    ).one()
    return int(row[0]), int(row[1])


def _values(connection: Connection, table: str, columns: list[str], made: str) -> dict[str, tuple[int, int]]:
    """Count, column by column, the values, and those that people entered or changed."""
    defaults: dict[str, str | None] = dict(
        connection.execute(
            text(
                "SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a"
                " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
                " WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped"
            ),
            {"table": identifier("public", table)},
        ).all()
    )
    counts = []
    for column in columns:
        name, default = identifier(column), defaults[column] or ""
        changed = f"t.{name} IS NOT NULL AND NOT {made}"
        if CONSTANT.fullmatch(default):
            changed += f" AND t.{name}::text <> ({default})::text"
        counts.append(f"count(t.{name}), count(*) FILTER (WHERE {changed})")
    query = f"SELECT {', '.join(counts)} FROM {identifier('public', table)} AS t"
    row = connection.execute(text(query.replace(":", r"\:")))
    numbers = [int(value) for value in row.one()]
    return {column: (numbers[2 * i], numbers[2 * i + 1]) for i, column in enumerate(columns)}


def rights(connection: Connection, steps: plan.Plan) -> list[str]:
    """Return what gives others the rights again that they have on what goes; no shelf keeps those."""
    asked = {"keys": keys(connection, steps)}
    return list(connection.exec_driver_sql(_RIGHTS.read_text(encoding="utf-8"), asked).scalars())


def refuse_hidden(connection: Connection, steps: plan.Plan) -> None:
    """Raise ``RollbackFailed`` where row security hides from us rows of which something would go."""
    tables = [key.removeprefix("table ") for key in keys(connection, steps) if key.startswith("table ")]
    tables += [table for table, _ in going_columns(connection, steps)]
    hidden = connection.execute(
        text(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY(:tables)"
            " AND row_security_active(oid) ORDER BY 1"
        ),
        {"tables": tables},
    ).scalars()
    for table in hidden:
        raise RollbackFailed(
            say("row security hides rows of {table} from us: what is in them would be lost", table=table),
            hint=say(
                "ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY; for the time of the rollback, as the table's owner.",
                table=identifier(table),
            ),
            database=UNTOUCHED,
        )


def refuse(connection: Connection, steps: plan.Plan) -> None:
    """Raise ``RollbackFailed`` where others depend on what goes."""
    going = keys(connection, steps)
    found = connection.exec_driver_sql(_DEPENDENTS.read_text(encoding="utf-8"), {"keys": going})
    findings = [
        Finding(
            subject,
            say("depends on what would go, and is not ours"),
            _in_the_way(statement),
            check="nothing_depends_on_what_goes",
            area="structure",
        )
        for subject, statement in found
    ]
    if findings:
        raise RollbackFailed(
            say(
                "{count} object(s) of others depend on what would go: {names}",
                count=len(findings),
                names=", ".join(finding.subject for finding in findings),
            ),
            hint=findings[0].hint,
            database=UNTOUCHED,
            findings=findings,
        )


def _in_the_way(statement: str) -> str:
    """Say what removes an object of others, and what to keep of it first."""
    if statement.startswith(("DROP TABLE", "DROP MATERIALIZED")) or " DROP COLUMN " in statement:
        return say("Keep its definition and what is in it, then: {statement}", statement=statement)
    return say("Keep its definition, then: {statement}", statement=statement)
