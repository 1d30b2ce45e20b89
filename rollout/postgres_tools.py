"""PostgreSQL's own client programs: which ones are here, which one fits a server, and how one is run.

Besides ``rollout.embedded`` the only module that starts programs. Passwords go through the environment only; a program
ends with us, whether we are interrupted, killed, or tired of waiting.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from psycopg2.extensions import make_dsn

from rollout import interrupt
from rollout.errors import PreflightFailed
from rollout.messages import Message, say
from rollout.settings import process_environment
from rollout.wheel import wheel_bin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rollout.settings import Server

# Debian's and RPM's versioned directories, and where the BT panel installs it.
_PLACES = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "www/server/pgsql/bin")

# Secrets never stand in an argument list; libpq has no environment variable for sslpassword.
_SECRETS = {"password", "sslpassword"}
_SHORT = 6

_POLL_SECONDS, _TERM_SECONDS = 0.2, 10.0
_STDERR_BYTES = 4 * 2**20
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Tool:
    """One installed program and its version, like '16.4'."""

    program: str
    path: Path
    version: str

    @property
    def major(self) -> int:
        """The program's major version."""
        return int(re.split(r"\D", self.version)[0])


@dataclass(frozen=True)
class Outcome:
    """How a program ended: its return code (negative: the signal that ended it), and what it told on stderr.

    ``told`` is what it wrote, to judge by; what is shown of it goes through ``shown``, which leaves passwords out.
    """

    tool: Tool
    returncode: int
    told: str = field(repr=False)
    timed_out: bool = False
    server: Server | None = None

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.returncode == 0 and not self.timed_out

    @property
    def stderr(self) -> str:
        """All that it told, without passwords."""
        return self.shown(self.told)

    @property
    def reason(self) -> str:
        """The one line that tells best why it failed, without passwords."""
        cause = self.cause
        return cause if isinstance(cause, Message) else self.shown(cause)  # a message of ours stays one

    def shown(self, text: str) -> str:
        """Return a part of what it told without passwords."""
        return redact(text, self.server)

    @property
    def cause(self) -> str:
        """The one line that tells best why it failed, as it stands there: to judge by."""
        program = self.tool.program
        if self.timed_out:
            return say("{program} was stopped because it took too long", program=program)
        lines = [line.strip() for line in self.told.splitlines() if line.strip()]
        # With several lines the first error is the cause; "errors ignored" and "a worker died" only follow from it.
        first = next((i for i, line in enumerate(lines) if re.search(r"error:|FATAL:|ERROR:", line)), 0)
        if lines:
            told = re.sub(rf"^{program}: (error: |detail: )*", "", lines[first])
            # pg_dump up to 13 calls everything an error; what it had asked for is long, and tells nothing.
            more = (
                rf"{program}: (?:detail: (?!(?:The )?(?:query|command) was)|error: (?=Error message from server))(.+)"
            )
            detail = re.fullmatch(more, "".join(lines[first + 1 : first + 2]), re.IGNORECASE)
            return f"{program}: {told}{f' {detail[1]}' if detail else ''}"
        if self.returncode < 0:
            return say("{program} was ended by signal {number}", program=program, number=-self.returncode)
        return say("{program} ended with code {code}", program=program, code=self.returncode)


def _directories() -> Iterator[Path]:
    """Yield where client programs may be, the system's own before the embedded wheel's."""
    yield from (Path(place) for place in os.get_exec_path())
    for pattern in _PLACES:
        yield from sorted(Path("/").glob(pattern))
    wheel = wheel_bin()
    if wheel is not None:
        yield wheel


@cache
def find(program: str) -> tuple[Tool, ...]:
    """Return every installed ``program`` that runs and tells its version, in the order of preference among equals."""
    found: dict[Path, Tool] = {}
    for directory in _directories():
        with suppress(OSError, subprocess.SubprocessError):
            path = (directory / program).resolve(strict=True)
            # Debian's wrapper picks a version by rules of its own; the real ones are in the versioned directories.
            if path in found or path.name == "pg_wrapper":
                continue
            told = subprocess.run(  # noqa: S603 - a program that was found by its name, no arguments from outside
                [path, "--version"], capture_output=True, text=True, check=True, timeout=10, stdin=subprocess.DEVNULL
            ).stdout
            version = re.search(r"\(PostgreSQL\) (\d+[\w.]*)", told)
            if version:
                found[path] = Tool(program, path, version[1])
    return tuple(found.values())


def tool_for(program: str, server_major: int, *, oldest: int = 0) -> Tool:
    """Return the ``program`` for a server of this major version (0: for no server, only to read an archive).

    The oldest that is new enough: pg_dump refuses a newer server, pg_restore an archive of a newer pg_dump (its major
    is ``oldest``), and clients from 17 on send servers up to 16 a setting they do not know (``backups.archive``).
    Raises ``PreflightFailed``. https://www.postgresql.org/docs/current/app-pgdump.html (Notes)
    """
    installed = find(program)
    need = max(server_major, oldest)
    fitting = [tool for tool in installed if tool.major >= need]
    if fitting:
        return min(fitting, key=lambda tool: tool.major)
    major = max(need, 12)
    hint = say(
        'apt install postgresql-client-{major}, or in this project: pip install -e ".[embedded]" (a PostgreSQL 18)',
        major=major,
    )
    if not installed:
        raise PreflightFailed(say("there is no {program} on this machine", program=program), hint=hint)
    versions = ", ".join(sorted({tool.version for tool in installed}))
    raise PreflightFailed(
        say("{program} {major} or newer is needed; only older ones are here: {versions}",
            program=program, major=major, versions=versions),
        hint=hint,
    )  # fmt: skip


def connection_string(server: Server) -> str:
    """Return libpq's connection string without secrets: for an argument list.

    Not the environment: a service named there would stand above it, and pg_restore would read a database's name with an
    equals sign as a connection string.
    """
    return str(make_dsn(**{k: v for k, v in server.parameters.items() if k not in _SECRETS}))


def redact(text: str, server: Server | None) -> str:
    """Take passwords out of a text.

    A short one is taken out where it stands alone (in quotes, after an equals sign, between blanks): it may be part of
    many words, and nobody could read what is left, nor would that keep the secret.
    """
    for name in _SECRETS:
        for secret in (server.parameters.get(name) or "").splitlines() if server else ():
            part = re.escape(secret)
            if len(secret) < _SHORT:
                part = rf"(?<![A-Za-z0-9_]){part}(?![A-Za-z0-9_])"
            text = re.sub(part, "***", text) if secret else text
    return re.sub(r"(://[^\s:/@]+):[^\s@]+@", r"\1:***@", text)


def run_tool(
    tool: Tool,
    arguments: Sequence[str],
    *,
    server: Server | None = None,
    watch: Callable[[], None] | None = None,
    timeout: float | None = None,
) -> Outcome:
    """Run a program to its end and say how it ended; its stdout goes nowhere, files it makes are ours alone (0600).

    ``server``: connect there (adds ``--dbname`` and ``--no-password``). ``watch`` is called several times a second;
    what it raises, and Ctrl-C, ends the program and goes on up. ``timeout`` in seconds. On Linux the program also ends
    when we are killed. Raises ``PreflightFailed`` where it cannot be started.
    """
    environment = process_environment()
    environment.update(LC_ALL="C")
    environment.pop("PGCLIENTENCODING", None)  # would make pg_dump convert the data
    command = [str(tool.path), *arguments]
    if server is not None:
        command += ["--no-password", f"--dbname={connection_string(server)}"]
        environment.update({"PGPASSWORD": server.parameters["password"]} if "password" in server.parameters else {})
    with tempfile.TemporaryFile() as stderr:
        process = None
        try:
            with interrupt.held():
                process = _start(command, environment, stderr)
            timed_out = _wait(process, watch, timeout)
        finally:
            if process is not None:
                _stop(process)
        stderr.seek(0)
        told = stderr.read(_STDERR_BYTES).decode(errors="replace")
    return Outcome(tool, process.returncode, told, timed_out, server)


def _start(command: list[str], environment: dict[str, str], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a program that ends with us."""
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of forks in a process with threads; our child makes two system calls, then execs.
            warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
            return subprocess.Popen(  # noqa: S603 - a program that was found by its name, arguments of our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environment,
                umask=0o077,
                start_new_session=True,  # Ctrl-C is for us; we end the program and wait for it
                preexec_fn=_end_with_parent(),  # noqa: PLW1509 - see the docstring of run_tool
            )
    except OSError as error:
        raise PreflightFailed(
            say("{program} cannot be started: {reason}", program=command[0], reason=error.strerror or error),
            hint=say("Check that the file is there and that you may run it."),
        ) from error


def _end_with_parent() -> Callable[[], None] | None:
    """Return what a child calls to end with the thread that forked it; None where there is no prctl.

    SIGTERM, because pg_dump passes that on to its workers and cancels their queries.
    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return tie


def _wait(process: subprocess.Popen[bytes], watch: Callable[[], None] | None, timeout: float | None) -> bool:
    """Wait for a program's end; return True where it did not come in time."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
            return False
        if watch is not None:
            watch()
        if end is not None and time.monotonic() > end:
            return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a program where it still runs, and its workers, which outlive one that was killed."""
    with suppress(ProcessLookupError):  # nobody is left of its session
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() != 0:
                os.killpg(process.pid, number)
            end = time.monotonic() + _TERM_SECONDS
            while process.poll() != 0 and time.monotonic() < end:
                os.killpg(process.pid, 0)
                time.sleep(0.02)
