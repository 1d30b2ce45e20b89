"""``--decisions FILE.csv``: a person says who a source user is (match), or new (create), or nobody (skip).

The file is checked as a whole before anything is written; every problem is told with its line. Its hash and rows stay
in the run's record.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from datamigrations.mapping import USERS
from datamigrations.quarantine import SKIPPED, accepted
from datamigrations.sqltext import UUID_PATTERN, as_key, literal
from rollout.errors import UNTOUCHED, PreflightFailed
from rollout.messages import say
from rollout.output import EMPTY_NAME, NAME_A_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from datamigrations.job import Job

CREATE_TAKEN = "create_taken"
"""The reason of users whom a person decided to create, and whose address or Feishu id is somebody's account."""

HEADER = ("source_id", "action", "target")
_UUID = re.compile(UUID_PATTERN.strip("'"))
_ACTIONS = ("match", "create", "skip")
_LISTED = 20
_TOO_MANY = "\0"
"""Stands for the name of a cell beyond the header's; no file that is read has a NUL."""

_NO_SOURCE_USER = say("no such source user, or one that does not fit")
_NO_TARGET = say("target is no user")
_SAME_TARGET = say("two source users have this target")
_MAPPED = say("the map says otherwise since an earlier import")
_FROM_THE_SERVER = {str(one): one for one in (_NO_SOURCE_USER, _NO_TARGET, _SAME_TARGET, _MAPPED)}

# ``partly``: the run does not read every user, so that one who is not there may well be in the source.
_PROBLEMS = f"""
SELECT line, source_id, problem FROM (
    SELECT d.line, d.source_id, CASE
        WHEN w.n IS NULL AND :partly
         AND NOT EXISTS (SELECT FROM rollout.import_converted_users AS c WHERE c.id = d.source_id)
        THEN NULL
        WHEN d.line IS NULL THEN NULL
        WHEN w.n IS NULL AND d.action = 'skip'
         AND EXISTS (SELECT FROM rollout.import_converted_users AS c WHERE c.id = d.source_id)
        THEN NULL
        WHEN w.n IS NULL THEN {literal(_NO_SOURCE_USER)}
        WHEN d.action = 'match' AND u.id IS NULL THEN {literal(_NO_TARGET)}
        WHEN d.action = 'match' AND count(*) OVER (PARTITION BY d.action, d.target) > 1
        THEN {literal(_SAME_TARGET)}
        WHEN m.user_id IS NOT NULL AND NOT (d.action = 'match' AND m.user_id::text = d.target
                                            OR d.action = 'create' AND m.matched_by = 'created')
        THEN {literal(_MAPPED)} END AS problem
    FROM rollout.import_decisions AS d
    LEFT JOIN rollout.import_converted_users AS w ON w.id = d.source_id AND {accepted(USERS)}
    LEFT JOIN public.users AS u ON u.id::text = d.target
    LEFT JOIN public.pagtive_user_map AS m ON m.source_id = d.source_id
) AS q WHERE problem IS NOT NULL ORDER BY line
"""
# Whom an earlier file said to skip, or to create in vain, and no file since has said anything else of.
_STAY = f"""
INSERT INTO rollout.import_decisions (source_id, action)
SELECT DISTINCT w.id, :action FROM rollout.import_converted_users AS w
WHERE w.id IN (SELECT {as_key("q.source_key")} FROM rollout.quarantine AS q
               WHERE q.table_name = {literal(USERS.name)} AND q.resolved_by IS NULL
                 AND CAST(:reason AS text) = ANY(q.reasons))
  AND w.id NOT IN (SELECT d.source_id FROM rollout.import_decisions AS d)
  AND w.id NOT IN (SELECT m.source_id FROM public.pagtive_user_map AS m)
"""
_UNREAD = """
SELECT count(*) FROM rollout.import_decisions AS d
WHERE NOT EXISTS (SELECT FROM rollout.import_converted_users AS w WHERE w.id = d.source_id)
"""


def read(path: Path) -> tuple[str, list[dict[str, str]]]:
    """Return a file's hash and its rows (with ``line``); raise ``PreflightFailed`` with every problem of its form."""
    if not path.parts:
        raise PreflightFailed(EMPTY_NAME, hint=NAME_A_FILE)
    try:
        raw = path.read_bytes()
        content = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        missing = isinstance(error, OSError)
        reason = error.strerror if isinstance(error, OSError) else say("not UTF-8")
        raise PreflightFailed(
            say("{path} cannot be read: {reason}", path=path, reason=reason),
            hint=say("Check the file's name and rights.") if missing else say("Save it as CSV in UTF-8."),
        ) from error
    if "\0" in content:
        refuse([(str(content.count("\n", 0, content.index("\0")) + 1), say("a NUL character"))])
    header, rows = _parsed(content)
    unnamed = [name for name in HEADER if header.count(name) != 1]
    if unnamed:
        raise PreflightFailed(
            say("the header of {path} does not name once: {names}", path=path, names=", ".join(unnamed)),
            hint=say("The first line: source_id,action,target; further columns are not read."),
        )
    for row in rows:
        row |= {name: row[name].lower() for name in ("source_id", "target") if _UUID.match(row[name])}
    refuse(list(_of_form(rows)))
    return hashlib.sha256(raw).hexdigest(), [{name: row[name] for name in ("line", *HEADER)} for row in rows]


def _parsed(content: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return a CSV's header, and its rows (with ``line``) without those of empty cells, which spreadsheets leave."""
    delimiter = ";" if ";" in content.split("\n", 1)[0] else ","
    reader = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter, restkey=_TOO_MANY, strict=True)
    rows: list[dict[str, str]] = []
    ended = 0
    try:
        header = [name.strip() for name in reader.fieldnames or []]
        ended = reader.line_num
        for row in reader:
            ended = reader.line_num
            cells = {name.strip(): "".join(cell or "").strip() for name, cell in row.items()}
            if any(cells.values()):
                rows.append({**cells, "line": str(ended)})
    except csv.Error:
        refuse([(str(ended + 1), say("a quotation mark that is not closed, or stands where none may be"))])
    return header, rows


def _of_form(rows: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield (line, problem) of what can be told from the file alone."""
    seen: set[str] = set()
    if not rows:
        yield "1", say("no decision")
    for row in rows:
        if _TOO_MANY in row:
            yield row["line"], say("too many columns")
        if row["source_id"] in seen or not row["source_id"]:
            yield row["line"], say("source_id is missing or there twice")
        seen.add(row["source_id"])
        if row["action"] not in _ACTIONS:
            yield row["line"], say("action is none of match, create, skip")
        elif (row["action"] == "match") != bool(row["target"]):
            yield row["line"], say("a target belongs to match, and to nothing else")


def refuse(problems: list[tuple[str, str]]) -> None:
    """Raise ``PreflightFailed`` that names every problem (the first of very many)."""
    if problems:
        listed, *others = (say("{line}: {problem}", line=line, problem=what) for line, what in problems[:_LISTED])
        for one in others:
            listed = say("{listed}; {one}", listed=listed, one=one)
        raise PreflightFailed(
            say("{count} decision(s) cannot be followed, by line: {problems}", count=len(problems), problems=listed),
            hint=say("Mend the file; nothing was written."),
            database=UNTOUCHED,
        )


def is_personal(told: str) -> bool:
    """Tell whether what is told of a user, an id for one, may be an e-mail address: in no report and no message."""
    return "@" in told


def _where(row: Any) -> str:
    """Return the line, and the id, that a problem is about."""
    return str(row.line) if is_personal(row.source_id) else f"{row.line}: {row.source_id}"


def prepare(job: Job) -> None:
    """Make ``import_decisions``: of this run's file, and what of earlier ones still stands (without a ``line``).

    Raises ``PreflightFailed`` where the file cannot be followed.
    """
    nothing = "SELECT 0 AS line, ''::text AS source_id, ''::text AS action, ''::text AS target LIMIT 0"
    job.temporary("import_decisions", nothing)
    if job.options.decisions:
        names = ("line", *HEADER)
        job.execute(
            f"INSERT INTO rollout.import_decisions SELECT CAST(line AS int), {', '.join(HEADER)} FROM unnest("
            + ", ".join(f"CAST(:{name} AS text[])" for name in names)
            + f") AS d ({', '.join(names)})",
            **{name: [row[name] for row in job.options.decisions] for name in names},
        )
        found = job.connection.execute(text(_PROBLEMS), {"partly": job.options.partly})
        refuse([(_where(row), _FROM_THE_SERVER[row.problem]) for row in found])
        unread = job.scalar(_UNREAD)
        if unread:
            job.run.listener.note(
                say("{count} decision(s) were not looked at: this run does not read those users", count=unread)
            )
    skipped = job.execute(_STAY, action="skip", reason=SKIPPED)
    if skipped:
        job.run.listener.note(
            say("{count} user(s) skipped by an earlier decision stay so; --decisions says otherwise", count=skipped)
        )
    apart = job.execute(_STAY, action="create", reason=CREATE_TAKEN)
    if apart:
        job.run.listener.note(
            say("{count} user(s) that an earlier decision creates stay apart; --decisions says otherwise", count=apart)
        )
    job.execute("ANALYZE rollout.import_decisions")
