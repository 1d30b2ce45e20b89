"""Archives of pg_dump: restored, their definitions told; and every line that the programs say is judged."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from rollout.messages import say
from rollout.postgres_tools import run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rollout.postgres_tools import Outcome, Tool
    from rollout.settings import Server

# What pg_restore 17 and newer write when a server up to 16 does not know transaction_timeout, which they set for each
# connection. Its workers write at the same time, so lines may be torn: what remains when these parts are taken out is
# an error that nobody expected. The server's part comes in the server's language.
_TOLERATED = re.compile(
    r"could not execute query: [^\n]*transaction_timeout[^\n]*"
    r"|Command was: SET transaction_timeout = 0;"
    r"|warning: errors ignored on restore: \d+"
    r"|(?:WARNING|NOTICE|DETAIL|HINT):  [^\n]*"
    r"|pg_restore:|error: |\s+"
)
_KNOWS_TRANSACTION_TIMEOUT = 17

# What the server tells beside its work: the severity in its own language and two blanks, then DETAIL and the like.
_SERVER_TOLD = re.compile(r"(?!ERROR|FATAL|PANIC)[^\W\d]+:  .*|LINE \d+: .*|\s*\^?\s*")

# A subscription ties its database to a server elsewhere: a copy of it must not even be there, or nobody can drop it.
_LEFT_OUT = "--no-subscriptions"


def restore_archive(
    tool: Tool, archive: Path, server: Server, server_major: int, *, jobs: int = 2, options: Sequence[str] = (),
    watch: Callable[[], None] | None = None, tell: Callable[[str], None] = lambda _: None,
) -> str | None:  # fmt: skip
    """Run ``tool`` (a pg_restore) into an empty database; return None, or the one line that tells why it failed.

    A client from 17 on cannot stop at the first error on a server up to 16; there everything it wrote must be known.
    ``tell`` hears what the server warned of.
    """
    tolerant = tool.major >= _KNOWS_TRANSACTION_TIMEOUT > server_major
    arguments = [f"--jobs={jobs}", _LEFT_OUT, *options, *([] if tolerant else ["--exit-on-error"])]
    outcome = run_tool(tool, [*arguments, str(archive)], server=server, watch=watch)
    if outcome.ok:
        return _judged(outcome, tell)
    unknown = _TOLERATED.sub("", outcome.told)
    if tolerant and outcome.returncode == 1 and "transaction_timeout" in outcome.told and not unknown:
        return None
    known = "\n".join(line for line in outcome.told.splitlines() if _TOLERATED.sub("", line))
    return replace(outcome, told=known).reason


def _judged(outcome: Outcome, tell: Callable[[str], None]) -> str | None:
    """Judge what a program said that ended well: what the server told goes to ``tell``, any other line is fatal.

    "archive is compressed, but this installation does not support compression" comes as a warning with the code 0.
    """
    program = outcome.tool.program
    for line in outcome.told.splitlines():
        shown = outcome.shown(line.strip())
        if line.startswith(f"{program}: "):
            return shown
        if not _SERVER_TOLD.fullmatch(line):
            return say("{program} said what is not known to be harmless: {line}", program=program, line=shown)
        if shown:
            tell(shown)
    return None


def in_encoding(encoding: str) -> str:
    """Return what to tell pg_dump so that it converts nothing, whatever client_encoding a database or role may have.

    ``encoding``: the database's own.
    """
    return f"--encoding={encoding}"


def definitions_of_archive(tool: Tool, archive: Path, file: Path, options: Sequence[str] = ()) -> str | None:
    """Write what ``tool`` (a pg_restore) would run to make everything but the data; return None, or why it cannot."""
    outcome = run_tool(tool, ["--schema-only", _LEFT_OUT, *options, f"--file={file}", str(archive)])
    return _judged(outcome, lambda _: None) if outcome.ok else outcome.reason


def definitions_of_database(
    tool: Tool, server: Server, encoding: str, file: Path, options: Sequence[str] = ()
) -> str | None:
    """Write ``pg_dump --schema-only`` of a database, which has this encoding, to a file; return None, or why not."""
    arguments = ["--schema-only", _LEFT_OUT, in_encoding(encoding), *options, f"--file={file}"]
    outcome = run_tool(tool, arguments, server=server)
    return None if outcome.ok else outcome.reason
