"""Hundreds of random damages to a backup: every one is caught, by hashes, or by the proof where those were redone."""

import hashlib
import json
import random
import shutil
from pathlib import Path

import pytest

from rollout.backup import create, verify
from rollout.errors import BackupFailed
from rollout.run import Run
from rollout.settings import Settings
from tests.fixtures.databases import execute
from tests.fixtures.tiers import tried_once


@pytest.fixture(scope="module")
def twins(tmp_path_factory, make_template):
    """Return two proven backups of databases with the same tables and other rows, and settings for their server."""
    made = []
    for number in (1, 2):
        server = make_template()
        rows = f"SELECT i, md5((i * {number})::text) FROM generate_series(1, 2000) i"
        execute(server, "CREATE TABLE t (a int, b text)", f"INSERT INTO t {rows}", "CREATE TABLE u (a int)")
        settings = Settings(server, None, tmp_path_factory.mktemp("twin"))
        made.append(create(settings, Run("backup create"), prove=True).path)
    return made[0], made[1], settings


def files_of(path):
    """Return a backup's files but its proof, the larger ones more often."""
    found = sorted(one for one in path.rglob("*") if one.is_file() and one.name != "proof.json")
    return [one for one in found for _ in range(1 + one.stat().st_size // 2000)]


def flip(copy, _, chance):
    """Change one bit."""
    victim = chance.choice([one for one in files_of(copy) if one.stat().st_size])
    content = bytearray(victim.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    victim.write_bytes(content)


def cut(copy, _, chance):
    """Cut a file somewhere, or empty it."""
    victim = chance.choice([one for one in files_of(copy) if one.stat().st_size])
    content = victim.read_bytes()
    victim.write_bytes(content[: chance.choice([0, chance.randrange(len(content))])])


def lose(copy, _, chance):
    """Remove a file."""
    chance.choice(files_of(copy)).unlink()


def add(copy, _, chance):
    """Add a file, empty or not, somewhere."""
    (chance.choice([copy, copy / "dump"]) / f"{chance.randrange(9999)}.dat.gz").write_bytes(chance.randbytes(3))


def shuffle(copy, _, chance):
    """Let two different files change places."""
    one, two = chance.sample(sorted(set(files_of(copy))), 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second if second != first else b"")
    two.write_bytes(first)


def overwrite(copy, _, chance):
    """Write zeros or noise over a stretch of a file, its length unchanged."""
    victim = chance.choice([one for one in files_of(copy) if one.stat().st_size > 40])
    content = bytearray(victim.read_bytes())
    start = chance.randrange(len(content) - 20)
    content[start : start + 20] = bytes(20) if any(content[start : start + 20]) else b"x" * 20
    victim.write_bytes(content)


def other_file(copy, other, chance):
    """Take a file of another, valid backup that differs."""
    differing = [
        one.relative_to(copy) for one in files_of(copy) if (other / one.relative_to(copy)).is_file()
        and (other / one.relative_to(copy)).read_bytes() != one.read_bytes()
    ]  # fmt: skip
    chosen = chance.choice(differing)
    shutil.copy(other / chosen, copy / chosen)


DAMAGES = [flip, cut, lose, add, shuffle, overwrite, other_file]


def missed(twins, tmp_path, number):
    """Do so many damages, one at a time, to a backup; return those that were not caught."""
    found = []
    for seed in range(number):
        chance, damage = random.Random(seed), DAMAGES[seed % len(DAMAGES)]  # noqa: S311 - the same every time
        copy = Path(shutil.copytree(twins[0], tmp_path / "copy"))
        damage(copy, twins[1], chance)
        try:
            verify(copy, run=Run("backup verify"), quick=True)
            found.append((seed, damage.__name__))
        except BackupFailed:
            pass
        shutil.rmtree(copy)
    return found


def test_a_sample_of_damages_is_caught(twins, tmp_path):
    """Ten of each kind of damage, anywhere in a backup: every one of them is refused by its hashes."""
    assert missed(twins, tmp_path, 10 * len(DAMAGES)) == []


@pytest.mark.exhaustive
def test_thousands_of_damages_are_caught(twins, tmp_path):
    """The same, 500 of each kind."""
    assert missed(twins, tmp_path, 500 * len(DAMAGES)) == []


def rehash(path, change=lambda _: None):
    """Make hashes of a backup right again, as somebody would who wanted to deceive; there is no proof then."""
    (path / "proof.json").unlink(missing_ok=True)
    values = json.loads((path / "manifest.json").read_text())
    change(values)
    for entry in values["files"]:
        content = (path / entry["path"]).read_bytes()
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    text = json.dumps(values)
    (path / "manifest.json").write_text(text)
    (path / "manifest.json.sha256").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  manifest.json\n")


@pytest.mark.parametrize(
    "what", tried_once(["dump of another", "rows", "fingerprint", "one table less", "columns"], keep=2)
)
def test_what_was_hashed_again_does_not_pass_a_proof(twins, tmp_path, what):
    """Hashes redone after a change: nothing to see for `--quick`, but unproven, and a proof finds it by content."""
    copy = Path(shutil.copytree(twins[0], tmp_path / "copy"))
    if what == "dump of another":
        shutil.rmtree(copy / "dump")
        shutil.copytree(twins[1] / "dump", copy / "dump")

    def change(values):
        table = values["contents"]["tables"][0]
        if what == "rows":
            table["rows"] -= 1
        elif what == "fingerprint":
            table["fingerprint"] = "0" * 24
        elif what == "one table less":
            del values["contents"]["tables"][1]
        elif what == "columns":
            table["columns"] = table["columns"][::-1]

    rehash(copy, change)
    assert verify(copy, run=Run("backup verify"), quick=True).proof is None
    with pytest.raises(BackupFailed) as caught:
        verify(copy, run=Run("backup verify"), settings=twins[2])
    assert any(one.subject.startswith(("public.", "TABLE")) for one in caught.value.findings)
    assert not (copy / "proof.json").exists()
