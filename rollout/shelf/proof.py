"""The proof that what came back from the shelf is what was put away; what did not stays there, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rollout.database import identifier, quote
from rollout.errors import MigrationFailed
from rollout.fingerprint import table_fingerprint
from rollout.messages import say
from rollout.shelf.entries import COLUMNS, SHELF, Entry, columns_of
from rollout.shelf.fit import Fit, if_taken

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass
class Returned:
    """What became of one entry: ``given`` rows must be found again at the end, ``cleared`` references lost their owner.

    ``fits``: there is a place for it at all. ``refused``: columns that do not take every value, each with the condition
    that it takes that of the row ``s``.
    """

    entry: Entry
    fits: bool = True
    given: int = 0
    back: int = 0
    cleared: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as the run's result names it."""
        left = self.entry.rows - self.back
        shown = {"object": self.entry.object, "rows": self.entry.rows, "returned": self.back, "left": left}
        lies = {"run_id": self.entry.run_id, "table": identifier(SHELF, self.entry.name)}
        return {**shown, "cleared": self.cleared, "why": [str(reason) for reason in self.why], **lies}


def is_as_it_was(connection: Connection, entry: Entry) -> bool:
    """Tell whether what is on the shelf is what was put away, or accepted since."""
    if not set(entry.fingerprinted) <= set(columns_of(connection, entry.table)):
        return False
    found = table_fingerprint(connection, SHELF, entry.name, entry.fingerprinted)
    return (found.rows, found.digest) == (entry.rows, entry.digest)


def prove(connection: Connection, outcome: Returned) -> None:
    """Find every row that was given back again, value by value; keep on the shelf what did not come back.

    Raises ``MigrationFailed`` where something else came back than was put away.
    """
    entry = outcome.entry
    if not outcome.fits:
        _label(connection, outcome, entry)
        return
    fit = Fit(connection, entry)
    target, key, equal = quote("public", entry.source), fit.same_key(), _equal(outcome, fit)
    pairs = f"{entry.table} AS s JOIN {target} AS t ON {key}"
    whole = " AND ".join([equal, *outcome.refused.values()])
    if entry.key_was_gone:
        whole += f" AND {_one_each(entry, f'{pairs} AND {whole}')}"
    outcome.back = _count(connection, f"{pairs} AND {whole}")
    partly = _count(connection, f"{pairs} AND NOT {equal}") if outcome.refused else 0
    if outcome.back < outcome.given or partly:
        raise MigrationFailed(
            say("{object}: what came back is not what was put away", object=entry.object),
            hint=say("Nothing was changed. `tool shelf show {run}` tells what is there.", run=entry.run_id),
        )
    if outcome.back == entry.rows:
        connection.exec_driver_sql(f"DROP TABLE {entry.table}")
        return
    connection.exec_driver_sql(f"DELETE FROM {entry.table} AS s USING {target} AS t WHERE {key} AND {whole}")
    left = table_fingerprint(connection, SHELF, entry.name, entry.fingerprinted)
    if not outcome.why:
        outcome.why.append(say("{count} row(s): their place is taken, or the table refuses them", count=left.rows))
    _label(connection, outcome, replace(entry, rows=left.rows, digest=left.digest))


def _label(connection: Connection, outcome: Returned, left: Entry) -> None:
    """Write down on the shelf what is left, and why."""
    replace(left, why=tuple(str(reason) for reason in outcome.why)).label(connection)


def _equal(outcome: Returned, fit: Fit) -> str:
    """Return the condition that a row of ``t`` has every value of the one of ``s`` that its columns take."""
    entry = outcome.entry
    ours, theirs = (
        [f"{row}.{quote(name)}" + ("::text" if name in fit.others else "") for name in entry.columns] for row in "ts"
    )
    if entry.kind == COLUMNS:
        taken = [outcome.refused.get(name) for name in entry.columns]
        theirs = [f"coalesce({there}, {here})" for there, here in zip(theirs, ours, strict=True)]
        ours, theirs = ([if_taken(*one) for one in zip(taken, values, strict=True)] for values in (ours, theirs))
    return f"ROW({', '.join(ours)})::text = ROW({', '.join(theirs)})::text"


def _one_each(entry: Entry, found: str) -> str:
    """Return the condition that a row of ``s`` is the first of its equals: a table with a key took one of them."""
    key = ", ".join(f"s.{quote(name)}" for name in entry.key)
    return f"s.ctid IN (SELECT DISTINCT ON ({key}) s.ctid FROM {found} ORDER BY {key}, s.ctid)"


def _count(connection: Connection, rows: str) -> int:
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM {rows}").scalar_one())
