"""What pg_dump writes is compressed beside it: the same bytes, read by pg_restore, and little of the disk meanwhile."""

import errno
import gzip
import os
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from rollout.backup import create
from rollout.backups import compression
from rollout.backups import dump as dump_module
from rollout.backups.compression import Compressor
from rollout.errors import BackupFailed
from rollout.postgres_tools import tool_for
from rollout.run import Run
from tests.fixtures.databases import execute
from tests.fixtures.listening import Notes

PIECE = 1 << 16


@pytest.fixture
def dump(tmp_path):
    """Return the directory that pg_dump would write to."""
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "toc.dat").write_bytes(b"no archive")
    return tmp_path / "dump"


@pytest.fixture
def small_pieces(monkeypatch):
    """Compress in small pieces, and look often."""
    monkeypatch.setattr(compression, "_PIECE", PIECE)
    monkeypatch.setattr(compression, "_BATCH", 3 * PIECE)
    monkeypatch.setattr(compression, "_POLL_SECONDS", 0.01)


@pytest.fixture
def varied(database):
    """Return a database with tables of several sizes, one of them empty, and large objects, one of them empty."""
    execute(
        database,
        "CREATE TABLE empty (a int)",
        "CREATE TABLE wide AS SELECT i, repeat(md5(i::text), 60) AS text FROM generate_series(1, 3000) AS i",
        "CREATE TABLE narrow AS SELECT i FROM generate_series(1, 20000) AS i",
        "SELECT lo_from_bytea(0, ''), lo_from_bytea(0, convert_to(repeat('large', 50000), 'UTF8'))",
    )
    return database


def named(directory):
    """Return the names of a directory's data files."""
    return {path.name for path in directory.glob("*.dat*")} - {"toc.dat"}


@pytest.mark.usefixtures("small_pieces")
def test_the_files_are_those_of_pg_dump(varied, settings_for):
    """Every data file is there as gzip, and holds what pg_dump writes; the list of contents is that of its gzip."""
    made = create(settings_for(varied), run := Run("backup create"), prove=True)
    assert made.proof is not None
    dumps = {how: create(settings_for(varied), Run("backup create"), compress=how).path / "dump" for how in ("0", "1")}
    dump = made.path / "dump"
    assert {name.removesuffix(".gz") for name in named(dump)} == named(dumps["0"])
    assert all(name.endswith(".gz") for name in named(dump))
    for name in named(dump):
        assert gzip.decompress((dump / name).read_bytes()) == (dumps["0"] / name.removesuffix(".gz")).read_bytes()
    assert {path.stat().st_mode & 0o777 for path in dump.iterdir()} == {0o600}
    shown = {how: contents_of(path, made.manifest.server_major) for how, path in {**dumps, "ours": dump}.items()}
    assert shown["ours"] == shown["1"] != shown["0"]
    assert run.result["proven"]


def contents_of(dump, major):
    """Return what pg_restore tells of an archive: how it is compressed, and what is in it, but not when it was made."""
    told = subprocess.run(
        [tool_for("pg_restore", major).path, "--list", dump], capture_output=True, text=True, check=True
    )
    return [line for line in told.stdout.splitlines() if "created at" not in line]


def test_without_room_for_it_pg_dump_compresses(varied, settings_for, monkeypatch):
    """Where the disk could not hold what is not compressed, nothing of that is written."""
    usage = shutil.disk_usage(settings_for(varied).directory.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=40 * 2**20))
    monkeypatch.setattr(compression, "_EXPANDED", 10)
    monkeypatch.setattr(Compressor, "beside", lambda _: pytest.fail("compressed by ourselves"))
    made = create(settings_for(varied), Run("backup create"))
    assert all(name.endswith(".gz") for name in named(made.path / "dump"))


def test_a_compression_that_fails_ends_pg_dump(varied, settings_for, monkeypatch):
    """A disk that fails while compressing: exit code 7, and nothing that looks like a backup."""
    monkeypatch.setattr(Compressor, "_compress", failing(errno.EIO))
    with pytest.raises(BackupFailed) as caught:
        create(settings_for(varied), Run("backup create"))
    assert caught.value.exit_code == 7
    assert os.strerror(errno.EIO) in caught.value.message
    assert list(settings_for(varied).backups.iterdir()) == []


def failing(number):
    """Return what fails with an error of the system."""

    def fail(*_):
        raise OSError(number, os.strerror(number), "1.dat.gz")

    return fail


@pytest.mark.usefixtures("small_pieces")
def test_half_of_what_was_free_is_left_to_others(dump, monkeypatch):
    """The database may be on the same disk: its server stops where that is full."""
    usage, free = shutil.disk_usage(dump), iter([100, 51, 50, 49])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=next(free)))
    with pytest.raises(compression.NoRoom), Compressor(dump.parent).beside() as following:
        following.exception(20)
    assert list(free) == []


@pytest.mark.parametrize("whose", ["ours", "pg_dump's"])
def test_a_disk_that_fills_up_with_what_is_not_compressed(varied, settings_for, monkeypatch, whose):
    """Values that were compressed in the database may be a hundred times as large: pg_dump compresses them then."""
    if whose == "ours":
        monkeypatch.setattr(Compressor, "_compress", failing(errno.ENOSPC))
    else:
        run_tool = dump_module.run_tool

        def full(tool, arguments, **how):
            outcome = run_tool(tool, arguments, **how)
            told = "pg_dump: error: could not write to file: No space left on device"
            return replace(outcome, returncode=1, told=told) if "--compress=0" in arguments else outcome

        monkeypatch.setattr(dump_module, "run_tool", full)
    run = Run("backup create", listener=Notes())
    made = create(settings_for(varied), run, prove=True)
    assert made.proof is not None
    assert [note for note in run.listener.notes if "pg_dump compresses it now" in note]
    assert all(name.endswith(".gz") for name in named(made.path / "dump"))


def test_a_file_that_is_read_short(varied, settings_for, monkeypatch):
    """Bytes that do not come are a failure, not the end of the file."""
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, begin: read(file, size // 2, begin))
    with pytest.raises(BackupFailed, match="read less than was written"):
        create(settings_for(varied), Run("backup create"))


@pytest.mark.usefixtures("small_pieces")
def test_what_is_compressed_is_given_back_to_the_disk(dump):
    """While a file grows, the disk holds little more than what has not been compressed yet."""
    written = os.urandom(PIECE) * 64
    raw = dump / "1.dat"
    with Compressor(dump.parent).beside() as following, raw.open("wb") as file:
        file.write(written)
        file.flush()
        end = time.monotonic() + 20
        while not (dump / "1.dat.gz").exists() or (dump / "1.dat.gz").stat().st_size < len(written):
            assert not following.done()
            assert time.monotonic() < end
            time.sleep(0.01)
        if punches(dump):
            assert raw.stat().st_blocks * 512 <= PIECE
        assert raw.stat().st_size == len(written)
        file.write(b"the end")
    assert gzip.decompress((dump / "1.dat.gz").read_bytes()) == written + b"the end"
    assert not raw.exists()


def punches(directory):
    """Tell whether the file system gives back parts of a file, by another program than ours."""
    file = directory / "probe"
    file.write_bytes(b"x" * PIECE)
    done = subprocess.run(["fallocate", "--punch-hole", "-l", str(PIECE), file], capture_output=True, check=False)
    file.unlink()
    return done.returncode == 0


@pytest.mark.parametrize("head", [b"PGDMP\x01\x11\x00\x04\x08\x03\x00", b"PGDMP\x02\x00\x00", b"", b"something else"])
def test_an_archive_of_a_version_that_is_not_known(dump, head):
    """The list of contents stays as it is."""
    (dump / "toc.dat").write_bytes(head)
    with Compressor(dump.parent).beside():
        (dump / "1.dat").write_bytes(b"")
    assert (dump / "toc.dat").read_bytes() == head
    assert gzip.decompress((dump / "1.dat.gz").read_bytes()) == b""


def test_the_end_of_the_block_is_the_end_of_the_threads(dump):
    """A dump that fails leaves no thread, and what it wrote as it is."""
    before = threading.active_count()
    with suppress(RuntimeError), Compressor(dump.parent).beside():
        (dump / "1.dat").write_bytes(b"half")
        raise RuntimeError
    assert threading.active_count() == before
    assert named(dump) == {"1.dat"}
