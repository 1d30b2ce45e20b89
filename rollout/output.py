"""Files that operators name on the command line: refused before any work is done where they cannot be written."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rollout.errors import ConfigurationError
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMPTY_NAME = say("the file name is empty")
NAME_A_FILE = say("Name a file: neither nothing nor a dot is one.")


@contextmanager
def output(file: Path, *, private: bool = False) -> Iterator[TextIO]:
    """Make a file anew, in UTF-8, and yield it; ``private``: its owner alone may read it.

    Raises ``ConfigurationError`` where it cannot be made, or not be written to its end.
    """
    if not file.parts:
        raise ConfigurationError(EMPTY_NAME, hint=NAME_A_FILE)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o666)
        if private:
            os.fchmod(descriptor, 0o600)  # also where it was there before
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as handle:
            yield handle
    except OSError as error:
        raise ConfigurationError(
            say("{path} cannot be written: {reason}", path=file, reason=error.strerror or str(error)),
            hint=say("Make room or mend the rights there, or name another file."),
        ) from error
