"""Files named on the command line: whole or as they were, refused early, special files as they are."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from rollout.errors import ConfigurationError
from rollout.output import check, output


def rights(file):
    """Return a file's rights."""
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture
def file(tmp_path):
    """Return a file with content that others may read."""
    file = tmp_path / "file.csv"
    file.write_text("before")
    file.chmod(0o640)
    return file


@pytest.mark.parametrize("stopped", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(file, stopped):
    """Nothing of the file changes, and nothing is left beside it."""

    def write():
        with output(file) as handle:
            handle.write("after")
            handle.flush()
            raise stopped

    with pytest.raises(stopped):
        write()
    assert (file.read_text(), rights(file), list(file.parent.iterdir())) == ("before", 0o640, [file])


def test_success_takes_its_place(file, tmp_path):
    """With the rights that it had, or those of its owner alone; through a link too, which stays one."""
    link = tmp_path / "link"
    link.symlink_to(file)
    with output(link) as handle:
        handle.write("after")
    assert (file.read_text(), rights(file), link.is_symlink()) == ("after", 0o640, True)
    with output(file, private=True) as handle:
        handle.write("mine")
    assert (file.read_text(), rights(file)) == ("mine", 0o600)
    assert sorted(tmp_path.iterdir()) == [file, link]


def test_a_check_changes_nothing(file, tmp_path):
    """It refuses what could not be made, and makes nothing itself."""
    check(file)
    check(tmp_path / "new")
    assert (file.read_text(), list(tmp_path.iterdir())) == ("before", [file])
    for wrong in (tmp_path, tmp_path / "nowhere" / "file", file / "file", tmp_path / ("n" * 256)):
        with pytest.raises(ConfigurationError, match="cannot be written"):
            check(wrong)
        with pytest.raises(ConfigurationError, match="cannot be written"), output(wrong):
            pass


def test_the_place_cannot_be_had(file, monkeypatch):
    """A file that is mounted cannot be replaced: it is written over."""
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: os.rename("nowhere", "nowhere"))  # noqa: PTH104
    with output(file) as handle:
        handle.write("after")
    assert (file.read_text(), list(file.parent.iterdir())) == ("after", [file])


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1"])
def test_special_files(tmp_path, place):
    """A pipe, and a file that the shell has opened, get what is written; nothing is put in their place."""
    program = f"from pathlib import Path; from rollout.output import check, output; check(Path('{place}'))\n"
    program += f"with output(Path('{place}'), private=True) as handle: handle.write('content')"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == b"content"
    with (tmp_path / "file").open("wb") as opened:
        subprocess.run(command, stdout=opened, check=True)
        assert os.fstat(opened.fileno()).st_ino == (tmp_path / "file").stat().st_ino
    assert (tmp_path / "file").read_text() == "content"
