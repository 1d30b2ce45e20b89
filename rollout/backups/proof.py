"""That a backup has been proven: ``proof.json`` beside its manifest, which holds for this manifest only."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rollout.backups.files import PROOF, PROOF_PARTIAL, fsync, write_text
from rollout.backups.manifest import manifest_hash
from rollout.errors import BackupFailed
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Proof:
    """That a restore showed the same contents: when, where, and how long it took.

    ``seconds``: restore and comparison; ``restore_seconds``: pg_restore alone, which an emergency would take at least.
    ``definitions``: whether `pg_dump -s` of the copy was compared too (only between servers and clients of one major).
    """

    manifest_sha256: str
    proven_at: str
    seconds: float
    restore_seconds: float
    place: str
    server_version: str
    definitions: bool
    tables: int
    rows: int


def _own_hash(values: dict[str, Any]) -> str:
    """Return the hash of a proof's own values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class NotRecorded(BackupFailed):
    """A restore has proven a backup, and that cannot be written down beside it."""


def write_proof(directory: Path, proof: Proof) -> None:
    """Write down that the backup is proven, whole or not at all; raises ``NotRecorded``."""
    try:
        _write(directory, proof)
    except OSError as error:
        raise NotRecorded(
            say("{path} restores to what was backed up, but that cannot be recorded beside it: {reason}",
                path=directory, reason=error.strerror or str(error)),
            hint=say("Make room or mend the rights there, then prove it again: `tool backup verify`."),
        ) from error  # fmt: skip


def _write(directory: Path, proof: Proof) -> None:
    """Write a proof under another name, then give it its own."""
    values = asdict(proof)
    text = json.dumps({"proof": values, "sha256": _own_hash(values)}, indent=1) + "\n"
    partial = directory / PROOF_PARTIAL
    with _nobody_else(directory):
        try:
            write_text(partial, text)
            fsync(partial)
            partial.replace(directory / PROOF)
        finally:
            partial.unlink(missing_ok=True)
    fsync(directory)


@contextmanager
def _nobody_else(directory: Path) -> Iterator[None]:
    """Let two runs that proved the same backup write that down one after the other."""
    held = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def forget_proof(directory: Path) -> None:
    """Take back that a backup is proven, where the directory lets us: what was found out since counts more."""
    with suppress(OSError):
        (directory / PROOF).unlink(missing_ok=True)


@contextmanager
def recorded_where_possible(directory: Path, tell: Callable[[str], object]) -> Iterator[None]:
    """Let what the block proves or refutes count, and tell it, where a directory of a backup cannot be written to."""
    try:
        yield
    except NotRecorded as error:
        tell(error.message)
    except BackupFailed as error:
        if error.findings and read_proof(directory) is not None:
            tell(say("the proof from before cannot be taken back; delete {path}", path=directory / PROOF))
        raise


def read_proof(directory: Path) -> Proof | None:
    """Return the proof of a backup, or None where there is none, or it is of another manifest."""
    try:
        values = json.loads((directory / PROOF).read_text(encoding="utf-8"))
        proof = Proof(**values["proof"])
        whole = values["sha256"] == _own_hash(values["proof"])
        of_this = proof.manifest_sha256 == manifest_hash(directory)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return proof if whole and of_this else None


def has_strange_proof(directory: Path) -> bool:
    """Tell whether there is a proof that is not one of this backup."""
    return (directory / PROOF).exists() and read_proof(directory) is None
