"""What can stop a run. Each class knows its exit code and the state it leaves the database in (see docs/runbook.md).

::

    RolloutError
    ├── ConfigurationError       3   untouched
    ├── DatabaseUnavailable      4   untouched
    ├── LockNotAcquired          5   untouched
    ├── PreflightFailed          6   untouched
    ├── BackupFailed             7   untouched
    ├── MigrationFailed          8   rolled back
    ├── VerificationFailed       9   rolled back (untouched by `verify`)
    ├── ReconciliationFailed    10   rolled back
    ├── RestoreFailed           11   untouched
    ├── RollbackFailed          12   rolled back (untouched where it refuses)
    ├── AuditFailed             13   changed
    ├── PartialChange           20   unknown, or changed in part
    └── Interrupted            130   rolled back
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rollout.findings import Finding

UNTOUCHED = "untouched"
CHANGED = "changed"
ROLLED_BACK = "rolled back"
RESTORED = "restored"
UNKNOWN = "unknown"


class RolloutError(Exception):
    """Something stopped the run.

    ``message``: one line, what is wrong. ``hint``: one line, what to do. ``database``: the state it is in, where that
    differs from the class's own. ``findings``: the findings of checks that led here.
    """

    exit_code: ClassVar[int] = 1
    default_database: ClassVar[str] = UNKNOWN

    def __init__(
        self, message: str, *, hint: str, database: str | None = None, findings: Sequence[Finding] = ()
    ) -> None:
        """Keep the message, the hint, the database's state and the findings."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.database = database or self.default_database
        self.findings = list(findings)


class ConfigurationError(RolloutError):
    """A setting is missing or wrong; the message names its key."""

    exit_code = 3
    default_database = UNTOUCHED


class DatabaseUnavailable(RolloutError):
    """The server cannot be reached, does not know the database, or does not let us in."""

    exit_code = 4
    default_database = UNTOUCHED


class LockNotAcquired(RolloutError):
    """Another run holds the lock, or a table's lock did not come in time."""

    exit_code = 5
    default_database = UNTOUCHED


class PreflightFailed(RolloutError):
    """Preflight found something that blocks."""

    exit_code = 6
    default_database = UNTOUCHED


class BackupFailed(RolloutError):
    """A backup could not be made, or is not what it was."""

    exit_code = 7
    default_database = UNTOUCHED


class MigrationFailed(RolloutError):
    """The upgrade failed and was rolled back."""

    exit_code = 8
    default_database = ROLLED_BACK


class VerificationFailed(RolloutError):
    """A check found an error."""

    exit_code = 9
    default_database = ROLLED_BACK


class ReconciliationFailed(RolloutError):
    """An import did not balance, or quarantined more rows than allowed."""

    exit_code = 10
    default_database = ROLLED_BACK


class RestoreFailed(RolloutError):
    """A restore failed; the original database is as it was."""

    exit_code = 11
    default_database = UNTOUCHED


class RollbackFailed(RolloutError):
    """A rollback was refused, or failed and left everything as it was."""

    exit_code = 12
    default_database = ROLLED_BACK


class AuditFailed(RolloutError):
    """The upgrade is committed and verified, but the audit after COMMIT found an error."""

    exit_code = 13
    default_database = CHANGED


class PartialChange(RolloutError):
    """The database was changed in part, or nobody can tell: a person must look."""

    exit_code = 20
    default_database = UNKNOWN


class Interrupted(RolloutError):
    """Ctrl-C or SIGTERM before COMMIT."""

    exit_code = 130
    default_database = ROLLED_BACK

    def __init__(self, *, database: str = ROLLED_BACK) -> None:
        """Nothing to say but that it was asked for."""
        super().__init__(
            say("interrupted"), hint=say("Run the same command again when you are ready."), database=database
        )
