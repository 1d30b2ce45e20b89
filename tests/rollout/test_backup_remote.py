"""Backups elsewhere: uploaded, fetched again, proven after that; damaged, half and missing ones are refused."""

from __future__ import annotations

import json
import sys

import fsspec
import pytest
from typer.testing import CliRunner

from cli import app
from rollout.backup import create, list_backups
from rollout.errors import BackupFailed, ConfigurationError
from rollout.run import Run
from tests.fixtures.databases import execute, query, url_of

STORE = "memory://bucket/backups"


@pytest.fixture(autouse=True)
def store():
    """Return the storage, empty before and after: fsspec's memory is one for the whole process."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def small(database):
    """Return a database with one small table."""
    execute(database, "CREATE TABLE t (a int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 100)")
    return database


@pytest.fixture
def tool(small, tmp_path, monkeypatch):
    """Return what runs a command and returns what it prints as JSON."""
    monkeypatch.setenv("DATABASE_URL", url_of(small))
    monkeypatch.setenv("ROLLOUT_DIR", str(tmp_path / "var"))
    return lambda *arguments: json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)


def left(tmp_path):
    """Return what stands among the local backups that is no backup."""
    return [path.name for path in (tmp_path / "var" / "backups").iterdir() if path.name.startswith(".")]


def test_uploaded_proven_and_restored_from_there(tool, small, store, tmp_path):
    """What is proven is what came back; both places hold the same files; a restore takes it from the URL."""
    made = tool("backup", "create", "--to", STORE)
    assert (made["exit_code"], made["proven"]) == (0, True)
    assert [step["name"] for step in made["steps"]][:4] == ["backup", "upload", "download", "check files"]
    name = made["path"].rpartition("/")[2]
    assert made["remote"] == f"{STORE}/{name}"
    here = tmp_path / "var" / "backups" / name
    there = {path.removeprefix(f"/bucket/backups/{name}/"): file.getvalue() for path, file in store.store.items()}
    local = {path.relative_to(here).as_posix(): path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert there == local
    assert "proof.json" in there

    execute(small, "DELETE FROM t")
    restored = tool("restore", f"{STORE}/{name}", "--yes")
    assert (restored["exit_code"], restored["database"]) == (0, "restored")
    assert query(small, "SELECT count(*) FROM t") == 100
    execute(small.to_database("postgres"), restored["drop_replaced"])
    assert left(tmp_path) == []


@pytest.fixture
def uploaded(small, settings_for):
    """Return the URL of a backup that nobody has proven."""
    run = Run("backup create")
    create(settings_for(small), run, to=STORE)
    return run.result["remote"]


def damages(store, url):
    """Yield the name of each damage after it was done to a stored backup; it is undone when the next is asked for."""
    whole = {path: file.getvalue() for path, file in store.store.items()}
    table = next(path for path in whole if path.endswith(".dat.gz"))
    middle = len(whole[table]) // 2
    changed = {
        "a bit": {table: whole[table][:middle] + bytes([whole[table][middle] ^ 1]) + whole[table][middle + 1 :]},
        "cut": {table: whole[table][:middle]},
        "gone": {table: None},
        "one too many": {f"/{url.partition('://')[2]}/dump/extra.dat": b"x"},
        "no hash": {path: None for path in whole if path.endswith(".sha256")},
        "no manifest": {path: None for path in whole if path.endswith("manifest.json")},
    }
    for name, files in changed.items():
        store.rm("/bucket", recursive=True)
        for path, data in {**whole, **files}.items():
            if data is not None:
                store.pipe_file(path, data)
        yield name


def test_damaged_ones_are_refused(tool, uploaded, store, small, tmp_path):
    """Whatever happened to it over there: neither verified nor restored, exit code 7, and nothing is left here."""
    assert tool("backup", "verify", uploaded, "--quick")["exit_code"] == 0
    for name in damages(store, uploaded):
        for arguments in (["backup", "verify", uploaded, "--quick"], ["restore", uploaded, "--yes"]):
            told = tool(*arguments)
            assert (told["exit_code"], told["database"]) == (7, "untouched"), (name, told)
            assert told["error"]["hint"], name
    assert query(small, "SELECT count(*) FROM t") == 100
    assert left(tmp_path) == []


def test_damage_on_the_way_is_found_before_it_is_called_proven(small, settings_for, store, monkeypatch):
    """Storage that changes a byte: what came back is not what was sent; the backup here is whole, and not proven."""
    put = type(store).put_file

    def careless(self, here, there, **keywords):
        put(self, here, there, **keywords)
        if there.endswith(".dat.gz"):
            self.pipe_file(there, self.cat_file(there)[:-1] + b"!")

    monkeypatch.setattr(type(store), "put_file", careless)
    run = Run("backup create")
    with pytest.raises(BackupFailed, match="is not what it was") as caught:
        create(settings_for(small), run, to=STORE, prove=True)
    assert caught.value.findings
    assert not any(path.endswith("proof.json") for path in store.store)


def test_storage_that_fails(small, settings_for, store, monkeypatch):
    """It is full in the middle: exit code 7 with its reason, nothing there; the backup here is whole."""
    put = type(store).put_file

    def full(self, here, there, **keywords):
        if there.endswith("manifest.json"):
            raise OSError(28, "No space left on device")
        put(self, here, there, **keywords)

    monkeypatch.setattr(type(store), "put_file", full)
    settings = settings_for(small)
    with pytest.raises(BackupFailed, match="No space left on device") as caught:
        create(settings, Run("backup create"), to=STORE)
    assert caught.value.exit_code == 7
    assert not store.store
    assert len(list_backups(settings.backups)) == 1


@pytest.mark.parametrize("extra", [True, False])
def test_a_url_that_leads_nowhere_is_refused_before_the_dump(small, settings_for, monkeypatch, extra):
    """A protocol that nobody knows, or no fsspec: exit code 3 before anything is dumped."""
    if not extra:
        monkeypatch.setitem(sys.modules, "fsspec", None)
    settings = settings_for(small)
    with pytest.raises(ConfigurationError, match="cannot be kept there" if extra else "not installed") as caught:
        create(settings, Run("backup create"), to="nowhere://bucket" if extra else STORE)
    assert caught.value.exit_code == 3
    assert not settings.backups.exists()
