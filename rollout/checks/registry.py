"""The registry of checks: small functions that yield findings.

A check yields nothing when all is well, never raises for a finding, never writes; its hint can be typed as it stands.
A check that cannot run is itself an error (``run_checks``), never a pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from rollout import catalog, plan
from rollout.adopt import LEGACY_MARK
from rollout.database import first_line, quote, sqlstate
from rollout.errors import ROLLED_BACK, UNTOUCHED, LockNotAcquired, RolloutError
from rollout.findings import ERROR, Finding
from rollout.messages import Message, say
from rollout.transaction import LOCK_NOT_AVAILABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from rollout.catalog import Catalog
    from rollout.manifest import Manifest
    from rollout.run import Listener
    from rollout.settings import Settings


class Area(str, Enum):
    """The areas of cli.md (``--area``), and preflight's own."""

    STRUCTURE = "structure"
    DATA = "data"
    BUSINESS = "business"
    PERFORMANCE = "performance"
    SECURITY = "security"
    PREFLIGHT = "preflight"


@dataclass(frozen=True)
class Subject:
    """What checks look at: a connection (in a transaction, search_path ``public``) and what its schema must be.

    ``manifest``: everything that the schema has at ``revision``; ``later``: at the newest one; ``preexisting``: objects
    that were there before us, as far as there is a memory to read (``remembers``); ``in_upgrade``: inside the upgrade's
    own transaction; ``deep``: read every row, however many there are; ``settings`` say where files are (None: no file
    is looked at); ``steps`` are there for preflight.
    """

    connection: Connection
    revision: str | None
    manifest: Manifest
    later: Manifest
    preexisting: frozenset[str] = frozenset()
    remembers: bool = False
    in_upgrade: bool = False
    deep: bool = False
    settings: Settings | None = None
    steps: plan.Plan | None = None

    @cached_property
    def sampled(self) -> dict[str, int]:
        """The tables of which checks read a sample only, and about how many rows each has; filled as they run."""
        return {}

    @cached_property
    def shared(self) -> dict[str, Any]:
        """What one check found out for others too, so that big tables are read once; filled as they run."""
        return {}

    def is_sampled(self, table: str) -> bool:
        """Tell whether checks read only a sample of a table's pages."""
        return not (self.deep or self.in_upgrade) and self._sizes.get(table, (0, 0))[0] > WHOLE_PAGES

    def rows(self, table: str) -> str:
        """Return a table as an item of FROM: whole, or a random sample of its pages where it is very big.

        A sample turns off joins that read the other side whole, for the rest of the check (its savepoint).
        https://www.postgresql.org/docs/current/sql-select.html#SQL-FROM
        """
        if not self.is_sampled(table):
            return quote(table)
        pages, rows = self._sizes[table]
        self.sampled[table] = rows
        self.connection.exec_driver_sql("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
        return f"(SELECT * FROM {quote(table)} TABLESAMPLE SYSTEM ({min(100, 100 * SAMPLED_PAGES / pages):.6f}))"

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        """How many pages each table of ``public`` has, and about how many rows."""
        found = self.connection.exec_driver_sql(
            "SELECT c.relname, pg_relation_size(c.oid) / current_setting('block_size')::bigint, c.relpages, c.reltuples"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind = 'r' AND 'table ' || c.relname = ANY(%s)",
            (list(self.later.objects),),
        )
        return {name: (pages, round(tuples / (known or 1) * pages)) for name, pages, known, tuples in found}

    @cached_property
    def catalog(self) -> Catalog:
        """What is there of all that revisions make, on it, and beside it; read once."""
        names = (key.partition(" ")[2] for key in self.later.objects if key.startswith(("table ", "view ")))
        return catalog.read(self.connection, names)

    def is_ours(self, key: str) -> bool:
        """Tell whether an object of the manifest is for us to keep: the legacy core is where we made it ourselves."""
        return self.manifest.made_by[key] != self.baseline or (
            self.remembers and self.revision is not None and LEGACY_MARK not in self.preexisting
        )

    @cached_property
    def baseline(self) -> str:
        """The revision of the legacy core."""
        return plan.history()[0].id

    def has_whole(self, key: str) -> bool:
        """Tell whether an object is there with all that its family does with it: rows come after their tables."""
        made_by = self.manifest.made_by.get(key)
        return made_by is not None and plan.families()[plan.family_of()[made_by]] in {
            one.id for one in plan.up_to(self.revision)
        }


WHOLE_PAGES = 1024**3 // 8192
"""The biggest table (1 GiB) that checks read whole unless they are to look deep."""

SAMPLED_PAGES = 8192
"""How many pages (64 MiB) of a bigger table they read."""

CheckFunction = Callable[[Subject], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One check; ``needs``: objects (manifest keys) without which there is nothing to look at; ``deep``: only then."""

    name: str
    area: Area
    needs: tuple[str, ...]
    function: CheckFunction
    deep: bool = False

    @property
    def doc(self) -> Message:
        """The first paragraph of the function's docstring, on one line; it has a Chinese text like any message."""
        return Message(" ".join((self.function.__doc__ or "").strip().split("\n\n")[0].split()))


CHECKS: dict[str, Check] = {}


def check(area: Area, *, needs: tuple[str, ...] = (), deep: bool = False) -> Callable[[CheckFunction], CheckFunction]:
    """Register a check under its function's name; two of one name are a mistake."""

    def register(function: CheckFunction) -> CheckFunction:
        name = function.__name__
        if name in CHECKS:
            raise ValueError(f"there are two checks named {name}")
        CHECKS[name] = Check(name, area, needs, function, deep)
        return function

    return register


@dataclass
class Outcome:
    """How many checks passed and what was found."""

    passed: int
    failed: int
    findings: list[Finding]
    areas: dict[str, list[int]] = field(default_factory=dict)
    """Of each area, how many checks passed and how many failed."""

    def count(self, area: str, *, failed: bool) -> None:
        """Count one check of an area."""
        self.failed += failed
        self.passed += not failed
        self.areas.setdefault(area, [0, 0])[failed] += 1

    def add(self, findings: list[Finding]) -> None:
        """Count what one more look found, which is no check of the registry."""
        self.findings += findings
        failed = any(finding.severity == ERROR for finding in findings)
        self.failed += failed
        self.passed += not failed

    @property
    def errors(self) -> list[Finding]:
        """The findings that are errors."""
        return [finding for finding in self.findings if finding.severity == ERROR]

    def summary(self) -> dict[str, int]:
        """Return the summary of cli.md: checks passed, checks failed, warnings."""
        return {
            "passed": self.passed,
            "failed": self.failed,
            "warnings": len(self.findings) - len(self.errors),
        }

    def by_area(self) -> list[dict[str, Any]]:
        """Return the same of each area."""
        warnings = Counter(finding.area for finding in self.findings if finding.severity != ERROR)
        return [
            {"area": area, "passed": passed, "failed": failed, "warnings": warnings[area]}
            for area, (passed, failed) in self.areas.items()
        ]


def run_checks(checks: Iterable[Check], subject: Subject, listener: Listener | None = None) -> Outcome:
    """Run every check whose objects are there, whole, at this revision; report all, then let the caller stop."""
    outcome = Outcome(0, 0, [])
    chosen = [
        one for one in checks if all(subject.has_whole(key) for key in one.needs) and (subject.deep or not one.deep)
    ]
    try:
        with subject.connection.begin_nested():
            _ = subject.catalog
    except SQLAlchemyError as error:
        _stop_at_locks(error, "catalog", subject)
        outcome.findings.append(_blind(error))
        for one in chosen:
            outcome.count(one.area.value, failed=True)
        return outcome
    for number, one in enumerate(chosen):
        if listener is not None:
            listener.progress("verify", number, len(chosen), "checks")
        found = [
            Finding(finding.subject, finding.problem, finding.hint, finding.severity, one.name, one.area.value)
            for finding in _run(one, subject)
        ]
        outcome.findings += found
        outcome.count(one.area.value, failed=any(finding.severity == ERROR for finding in found))
    return outcome


def _blind(error: SQLAlchemyError) -> Finding:
    """Say that not even the catalogs can be read; every check counts as failed."""
    return Finding(
        "database",
        say("what is there cannot be read: {reason}", reason=first_line(error)),
        say("The catalogs are everybody's to read: see what the server's log says."),
        check="catalog",
        area=Area.STRUCTURE.value,
    )


def _stop_at_locks(error: Exception, what: str, subject: Subject) -> None:
    """Raise ``LockNotAcquired`` where somebody held a table for too long: that says nothing about the database."""
    if sqlstate(error) == LOCK_NOT_AVAILABLE:
        raise LockNotAcquired(
            say("{check} waited too long for a table's lock: {reason}", check=what, reason=first_line(error)),
            hint=say("Run this again when the session that holds it has ended (see pg_stat_activity)."),
            database=ROLLED_BACK if subject.in_upgrade else UNTOUCHED,
        ) from error


def _run(one: Check, subject: Subject) -> list[Finding]:
    """Run one check in a savepoint that is rolled back: it leaves nothing, and the others a working transaction."""
    missing = [key for key in one.needs if key not in subject.catalog]
    if missing:
        kind, _, name = missing[0].partition(" ")
        problem = say("{kind} is missing, so that {check} cannot look at it", kind=kind, check=one.name)
        return [Finding(name, problem, say("tool verify --area structure"))]
    savepoint = subject.connection.begin_nested()
    try:
        return list(one.function(subject))
    except (SQLAlchemyError, RolloutError) as error:
        _stop_at_locks(error, one.name, subject)
        return [
            Finding(
                one.name,
                say("the check could not run: {reason}", reason=first_line(error)),
                say("Read rights on the tables of schema public are enough; see docs/checks.md#{name}", name=one.name),
            )
        ]
    finally:
        savepoint.rollback()
