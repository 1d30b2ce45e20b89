"""The moment of a restore: two renames, the comment and the memberships, in one transaction."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from rollout import databases, roles, scratch
from rollout.database import first_line
from rollout.errors import DatabaseUnavailable, PartialChange, RestoreFailed
from rollout.findings import WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from rollout.backups.manifest import Manifest
    from rollout.restore_plan import RestorePlan
    from rollout.run import Run
    from rollout.scratch import Place
    from rollout.settings import Settings

_ASK_TRIES, _ASK_SECONDS = 30, 1.0


def _gone(admin: Connection, manifest: Manifest) -> tuple[list[roles.Membership], list[roles.Membership]]:
    """Return the memberships that are gone since the backup: those that we may grant again, and the others."""
    missing = roles.missing_memberships(admin, manifest.needs.roles)
    ours = [one for one in missing if roles.may_grant(admin, one)]
    return ours, [one for one in missing if one not in ours]


def granted_again(admin: Connection, manifest: Manifest) -> list[str]:
    """Return the statements that the swap will run for memberships of roles that are gone since the backup."""
    return [databases.typed(f"{one};") for one in roles.grants(admin, _gone(admin, manifest)[0])]


def swap(settings: Settings, run: Run, there: Place, manifest: Manifest, plan: RestorePlan) -> None:
    """Swap the names; where the answer is lost, look what they are. Raises ``RestoreFailed``, ``PartialChange``."""
    ours, others = _gone(there.admin, manifest)
    comment = databases.comment_on(there.admin, plan.dbname, scratch.without_mark(manifest.database))
    then = [comment, *roles.grants(there.admin, ours)]
    run.findings += [_not_granted(databases.typed(f"{one};")) for one in roles.grants(there.admin, others)]
    try:
        databases.swap(there.engine, plan.renames, lock_timeout=settings.lock_timeout, then=then)
    except SQLAlchemyError as error:
        if _is_done(there, plan, error):
            return  # it was committed, only the answer did not come
        raise RestoreFailed(
            say("the names could not be swapped: {reason}", reason=first_line(error)),
            hint=say("End the sessions in {name} (see pg_stat_activity), then run this again.", name=plan.dbname),
        ) from error


def _is_done(there: Place, plan: RestorePlan, error: SQLAlchemyError) -> bool:
    """Ask whether the swap was committed; raise ``PartialChange`` where nobody can tell."""
    for _ in range(_ASK_TRIES):
        with suppress(SQLAlchemyError, DatabaseUnavailable), there.engine.connect() as connection:
            return not databases.exists(connection, plan.restored)
        time.sleep(_ASK_SECONDS)
    raise PartialChange(
        say("the connection was lost at the swap, and the server cannot be asked what became of it"),
        hint=say("When it is back, `psql -l` shows: is {name} there, the swap is done.", name=plan.replaced),
    ) from error


def _not_granted(statement: str) -> Finding:
    """Tell of a membership that the backup knows, the server has no more, and we may not grant."""
    problem = say("a membership of the backup's roles is gone, and we may not grant it")
    return Finding("roles", problem, statement, WARNING, "memberships_are_there", "backup")
