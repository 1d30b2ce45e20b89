"""The report of a run: a JSON file for programs, and one self-contained page for people, in English and Chinese.

Both are written whole or not at all, into a directory that is ours alone. ``tool report`` and ``tool verify --html``
render the same page from the same values.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from rollout import memory
from rollout.database import engine_for, first_line
from rollout.errors import PreflightFailed
from rollout.messages import in_chinese, say
from rollout.presentation import size

if TYPE_CHECKING:
    from jinja2 import Environment

    from rollout.picture import Picture
    from rollout.run import Run
    from rollout.settings import Server, Settings

TEMPLATES = Path(__file__).parent / "templates"

SHOWN_ROWS = 1000
"""The most rows of one list that the page shows; the JSON file has them all."""

_RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def write(settings: Settings, run: Run) -> Path:
    """Write ``<run_id>.json`` and ``<run_id>.html`` below ``settings.reports``; return the page's path.

    Works for a run that failed anywhere. Raises nothing but ``OSError``, whatever prevents the report: the caller may
    be on its way out with a worse error.
    """
    directory = settings.reports
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    page = directory / f"{run.run_id}.html"
    try:
        values = values_of(run)
        values.setdefault("configured_target", configured(settings.target))
        save(directory / f"{run.run_id}.json", json.dumps(values, ensure_ascii=False, indent=1) + "\n")
        save(page, render_html(values))
    except OSError:
        raise
    except Exception as error:
        raise OSError(say("the report could not be made: {reason}", reason=repr(error))) from error
    return page


def write_report(settings: Settings, run: Run) -> None:
    """Write the run's report; that it could not be written is said, and changes nothing else."""
    try:
        run.result["report"] = str(write(settings, run))
    except OSError as error:
        run.listener.note(say("the report could not be written: {reason}", reason=str(error)))


def configured(server: Server) -> str:
    """Name the database that was meant, also where it could not be reached; never with a password."""
    where = server.parameters
    return f"{where.get('host', 'localhost')}:{where.get('port', '5432')}/{server.database}"


def values_of(run: Run) -> dict[str, Any]:
    """Return what a report holds: the run's JSON (cli.md), and ``…_zh`` beside each text that has a Chinese one."""
    values: dict[str, Any] = json.loads(json.dumps(run.as_json(), default=str)) | {"run_id": run.run_id}
    for finding, one in zip(values.get("findings", []), run.findings, strict=False):
        finding.update(_in_chinese(problem=one.problem, hint=one.hint))
    for step, ended in zip(values["steps"], run.steps, strict=True):
        step.update(_in_chinese(detail=ended.detail))
    if run.error is not None:
        values["error"].update(_in_chinese(message=run.error.message, hint=run.error.hint))
    return values


def _in_chinese(**texts: str) -> dict[str, str]:
    """Return the Chinese texts under ``<name>_zh``, without those that have none."""
    translated = {f"{name}_zh": in_chinese(english) for name, english in texts.items()}
    return {name: chinese for name, chinese in translated.items() if chinese != texts[name.removesuffix("_zh")]}


def save(path: Path, content: str) -> None:
    """Write a file that its owner alone may read, whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        # A path with bytes that are no UTF-8 must not cost the report.
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def load(settings: Settings, run_id: str) -> dict[str, Any]:
    """Return a past run's values: from its report file, else (English only) from the database's memory.

    Raises ``PreflightFailed`` where neither knows the run.
    """
    values = None
    if _RUN_ID.fullmatch(run_id):
        with suppress(OSError, UnicodeDecodeError):
            values = _parsed((settings.reports / f"{run_id}.json").read_text(encoding="utf-8"))
        values = values or _parsed(_record(settings, run_id) or "")
    if values is None:
        raise PreflightFailed(
            say("there is no record of a run {run_id}", run_id=run_id),
            hint=say("`tool history` lists the runs; one that was killed has left no record."),
        )
    return {"run_id": run_id, **values}


def _parsed(content: str) -> dict[str, Any] | None:
    """Parse a report; None where it is not one."""
    try:
        values = json.loads(content)
    except ValueError:
        return None
    return values if isinstance(values, dict) and {"command", "steps"} <= values.keys() else None


def _record(settings: Settings, run_id: str) -> str | None:
    """Return a run's record in the database, or None."""
    engine = engine_for(settings.target)
    try:
        with engine.connect() as connection:
            if not memory.exists(connection):
                return None
            record: str | None = connection.execute(
                text("SELECT record FROM rollout.runs WHERE run_id = :run_id"), {"run_id": run_id}
            ).scalar()
            return record
    except DBAPIError as error:
        raise PreflightFailed(
            say("the memory of past runs cannot be read: {reason}", reason=first_line(error)),
            hint=say(
                "As the database's owner: GRANT USAGE ON SCHEMA rollout, GRANT SELECT ON rollout.runs TO your user."
            ),
        ) from error


def render_html(values: dict[str, Any]) -> str:
    """Return the page of a run's ``values`` (``values_of`` or ``load``): self-contained, nothing is fetched."""
    page: str = (
        _environment()
        .get_template("report.html")
        .render(values=values, shown_rows=SHOWN_ROWS, picture=_picture(values))
    )
    return page


def _picture(values: dict[str, Any]) -> Picture | None:
    """Return the picture of the schema for the page of a run that has one."""
    if values.get("command") != "verify":
        return None
    from rollout import picture  # noqa: PLC0415 - Alembic is slow to import, and no other page needs it

    return picture.of_run(values)


@cache
def _environment() -> Environment:
    """Return Jinja's environment with our filters; templates are compiled once a process."""
    from jinja2 import Environment, FileSystemLoader  # noqa: PLC0415 - commands without a page do not pay for it

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "columns": lambda rows: list(dict.fromkeys(name for row in rows for name in row)),
        "duration": _duration,
        "moment": _moment,
        "number": _number,
        "pieces": _pieces,
        "size": size,
        "pretty": lambda value: json.dumps(value, ensure_ascii=False, indent=2),
    }
    return environment


def _duration(seconds: float) -> str:
    """Return seconds as people read them: 52 ms, 8.4 s, 3 min 12 s, 1 h 04 min."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:  # noqa: PLR2004 - would round to 60.0 s
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"  # noqa: PLR2004


def _moment(iso: str) -> str:
    """Return a time in this machine's zone, with its offset."""
    local = datetime.fromisoformat(iso).astimezone().isoformat(" ", "seconds")
    return f"{local[:19]} {local[19:]}"


def _number(value: object) -> str:
    """Return a number with thousands apart; yes and no for truth, a dash for nothing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes 是" if value else "no 否"
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def _pieces(message: str) -> list[tuple[bool, str]]:
    """Split a text at its backticks into (code or not, text); a statement (it ends with a semicolon) is code."""
    if message.endswith(";"):
        return [(True, message)]
    return [(index % 2 == 1, piece) for index, piece in enumerate(message.split("`")) if piece]
