"""Files that operators name on the command line: refused before any work is done where they cannot be written.

A file is there whole or not at all: what it held before stays until all of the new content is written beside it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rollout.errors import ConfigurationError
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

EMPTY_NAME = say("the file name is empty")
NAME_A_FILE = say("Name a file: neither nothing nor a dot is one.")

_DESCRIPTORS = ("/proc/", "/dev/fd/", "/dev/stdout", "/dev/stderr")


@contextmanager
def output(file: Path, *, private: bool = False) -> Iterator[TextIO]:
    """Yield what becomes a file, in UTF-8, if all goes well; ``private``: its owner alone may read it.

    Raises ``ConfigurationError`` where it cannot be made, or not be written to its end.
    """
    with _refused(file):
        before = _before(file)
        beside = _beside(file, before, 0o600 if private else 0o666)
        if beside is None:
            with os.fdopen(_in_place(file, private=private), "w", encoding="utf-8", newline="") as handle:
                yield handle
            return
        descriptor, temporary = beside
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as handle:
                if before is not None:
                    _keep(descriptor, before, private=private)
                yield handle
            _put(temporary, Path(os.path.realpath(file)))
        finally:
            temporary.unlink(missing_ok=True)


def check(file: Path) -> None:
    """Raise ``ConfigurationError`` where a file cannot be made; what it holds stays as it is."""
    with _refused(file):
        beside = _beside(file, _before(file), 0o600)
        if beside is not None:
            os.close(beside[0])
            beside[1].unlink()


@contextmanager
def _refused(file: Path) -> Iterator[None]:
    """Turn what the system says into our error."""
    if not file.parts:
        raise ConfigurationError(EMPTY_NAME, hint=NAME_A_FILE)
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            say("{path} cannot be written: {reason}", path=file, reason=error.strerror or str(error)),
            hint=say("Make room or mend the rights there, or name another file."),
        ) from error


def _before(file: Path) -> os.stat_result | None:
    """Return what is there, None for nothing; raise ``OSError`` where that is no file or may not be written."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(file, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return found


def _beside(file: Path, before: os.stat_result | None, mode: int) -> tuple[int, Path] | None:
    """Open a new file beside the one that is meant; None where that itself has to be written.

    So it is with devices, pipes and what a descriptor leads to, and in a directory that takes no other file.
    """
    descriptor = str(file.absolute()).startswith(_DESCRIPTORS)
    if before is not None and (descriptor or not stat.S_ISREG(before.st_mode)):
        return None
    temporary = Path(os.path.realpath(file)).with_name(f".{secrets.token_hex(8)}.part")
    try:
        return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), temporary
    except PermissionError:
        if before is None:
            raise
        return None


def _in_place(file: Path, *, private: bool) -> int:
    """Open what is there, emptied."""
    descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC)
    if private and stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.fchmod(descriptor, 0o600)
    return descriptor


def _keep(descriptor: int, before: os.stat_result, *, private: bool) -> None:
    """Give a new file the owner and, unless it is ``private``, the rights of the one whose place it takes."""
    with suppress(OSError):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    if not private:
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def _put(temporary: Path, file: Path) -> None:
    """Put a written file in its place; over what is there where the place cannot be had (a file that is a mount)."""
    try:
        temporary.replace(file)
    except OSError:
        shutil.copyfile(temporary, file)
