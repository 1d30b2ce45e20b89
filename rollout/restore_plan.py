"""What a restore is about to do, for the operator to read before saying yes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rollout.messages import say

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from rollout.backups.changes import TableChange

_SHOWN = 50


@dataclass(frozen=True)
class RestorePlan:
    """What the swap would do, for the operator to confirm; ``replaced`` is None where there is no database to replace.

    ``changes``: what the database of today holds and the backup does not. ``unread``: why that is not known.
    ``grants``: memberships of roles that the backup knows and the server has no more; given back with the swap.
    ``slots``, ``subscriptions``: of logical replication from and to today's database; they stay with it.
    """

    backup: Path
    backup_of: str
    created_at: datetime
    revision: str | None
    server: str
    dbname: str
    restored: str
    replaced: str | None
    sessions: int = 0
    changes: list[TableChange] = field(default_factory=list)
    unread: str | None = None
    grants: list[str] = field(default_factory=list)
    slots: list[str] = field(default_factory=list)
    subscriptions: list[str] = field(default_factory=list)

    @property
    def renames(self) -> list[tuple[str, str]]:
        """The renames of the swap, (old, new)."""
        return [*([(self.dbname, self.replaced)] if self.replaced else []), (self.restored, self.dbname)]

    @property
    def renames_back(self) -> list[tuple[str, str]]:
        """The renames that take the swap back, where something was replaced."""
        return [(self.dbname, self.restored), (self.replaced, self.dbname)] if self.replaced else []

    def _state(self) -> str:
        """Say how far the database had been upgraded when it was backed up."""
        return say("revision {revision}", revision=self.revision) if self.revision else say("not upgraded yet")

    def lines(self) -> list[str]:
        """Return what an operator must know before saying yes."""
        said: list[str] = [
            say("backup of {what}, taken {when}, {state}", what=self.backup_of,
                when=self.created_at.isoformat(timespec="seconds"), state=self._state()),
            say("restored and compared: {name}", name=self.restored),
        ]  # fmt: skip
        said += [say("will be granted again: {statement}", statement=one) for one in self.grants]
        if self.replaced is None:
            return [*said, say("there is no database {name} now; it will be there again", name=self.dbname)]
        if self.unread:
            said.append(say("what {name} holds today cannot be read: {reason}", name=self.dbname, reason=self.unread))
        elif not self.changes:
            said.append(say("{name} holds the same rows as the backup", name=self.dbname))
        else:
            said.append(
                say("{count} tables of {name} differ from the backup; what they hold beyond it will not be there:",
                    count=len(self.changes), name=self.dbname)
            )  # fmt: skip
        said += [_change_line(change) for change in self.changes[:_SHOWN]]
        if len(self.changes) > _SHOWN:
            said.append(say("… and {count} more", count=len(self.changes) - _SHOWN))
        return [
            *said,
            *self._replication(),
            say("{count} sessions in {name} will be ended", count=self.sessions, name=self.dbname),
            say("{name} will be kept as {replaced}", name=self.dbname, replaced=self.replaced),
        ]

    def _replication(self) -> list[str]:
        """Say what of logical replication stays with the replaced database."""
        said: list[str] = []
        if self.slots:
            said.append(
                say("replication slots stay with {replaced}; make them anew in {name}: {slots}",
                    replaced=self.replaced, name=self.dbname, slots=", ".join(self.slots))
            )  # fmt: skip
        if self.subscriptions:
            said.append(
                say("subscriptions stay with {replaced}; make them anew in {name}: {subscriptions}",
                    replaced=self.replaced, name=self.dbname, subscriptions=", ".join(self.subscriptions))
            )  # fmt: skip
        return said


def _change_line(change: TableChange) -> str:
    """Say how one table differs."""
    table = f"{change.schema}.{change.name}"
    if change.problem:
        return say("  {table}: cannot be read: {reason}", table=table, reason=change.problem)
    then = "-" if change.rows_then is None else change.rows_then
    now = "-" if change.rows_now is None else change.rows_now
    if change.rows_then == change.rows_now and change.beyond is None:
        return say(
            "  {table}: {rows} rows as in the backup, some with other content", table=table, rows=change.rows_now
        )
    if change.beyond is None or change.gone is None:
        return say("  {table}: {then} rows in the backup, {now} today", table=table, then=then, now=now)
    return say("  {table}: {then} rows in the backup, {now} today: {beyond} new or changed, {gone} gone or changed",
               table=table, then=then, now=now, beyond=change.beyond, gone=change.gone)  # fmt: skip
