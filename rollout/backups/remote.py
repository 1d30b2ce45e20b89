"""Backups elsewhere: in S3-compatible storage, or wherever fsspec reaches; whole there, or nothing that looks like one.

An optional extra (``pip install -e ".[s3]"``). Credentials are those of the storage's own client: for S3 the ``AWS_…``
variables or ``~/.aws``. https://filesystem-spec.readthedocs.io/en/latest/
"""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollout.backups import manifest as backup_manifest
from rollout.backups.files import MANIFEST_HASH, PROOF
from rollout.backups.store import working_in
from rollout.errors import BackupFailed, ConfigurationError
from rollout.messages import say
from rollout.postgres_tools import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.run import Run

_FLAT = {"s3", "s3a", "gs", "gcs", "az", "abfs", "oss"}

_URL = re.compile(r"[a-z][a-z0-9+.-]*(::|://)")


def is_url(path: str) -> bool:
    """Tell whether a backup is named by a URL (``s3://bucket/backups/NAME``) and not by a path."""
    return _URL.match(path) is not None


@dataclass(frozen=True)
class _Remote:
    """A directory in some storage: fsspec's file system, and the path there."""

    files: Any
    path: str
    url: str


def require(url: str) -> None:
    """Raise where a URL leads nowhere, or to a bucket that is not there: before a dump takes its time, not after it."""
    there = _open(url)
    if not _is_flat(there.files):
        return
    bucket = there.path.partition("/")[0]
    with _explained(url), suppress(PermissionError):  # who may only write below a prefix cannot ask
        try:
            there.files.info(bucket)
        except FileNotFoundError:
            raise BackupFailed(
                say("there is no bucket {name} in that storage", name=bucket),
                hint=say("Check the name; a bucket is never made here."),
            ) from None


def _is_flat(files: Any) -> bool:
    """Tell whether a storage has buckets and keys, and no directories: to make one there would be to make a bucket."""
    protocol = files.protocol
    return not _FLAT.isdisjoint({protocol} if isinstance(protocol, str) else protocol)


def _open(url: str) -> _Remote:
    """Return where a URL leads; raise ``ConfigurationError`` where the extra is missing or the URL is of no kind."""
    try:
        import fsspec  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise _not_installed() from None
    try:
        files, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            say("backups cannot be kept there: {reason}", reason=_reason(error)),
            hint=say('Write it as s3://bucket/prefix; S3 needs: pip install -e ".[s3]"'),
        ) from error
    return _Remote(files, str(path).rstrip("/"), url.rstrip("/"))


def _not_installed() -> ConfigurationError:
    """Say that the extra is not installed."""
    return ConfigurationError(
        say("storage by URL is not installed"), hint=say('pip install -e ".[s3]", or name a directory.')
    )


def _reason(error: BaseException) -> str:
    """Return an error's first line without secrets."""
    lines = str(error).strip().splitlines()
    return redact(lines[0], None) if lines else type(error).__name__


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn whatever a storage's client raises into a ``BackupFailed``."""
    try:
        yield
    except BackupFailed:
        raise
    except Exception as error:
        raise BackupFailed(
            say("the storage {url} fails: {reason}", url=redact(url, None), reason=_reason(error)),
            hint=say("Check the address, the credentials (for S3: AWS_…, ~/.aws), and what they allow there."),
        ) from error


def upload(run: Run, directory: Path, url: str) -> str:
    """Copy a backup below a URL; return its own URL. The manifest's hash comes last: without it there is no backup."""
    there = _open(f"{url.rstrip('/')}/{directory.name}")
    names = [path.relative_to(directory).as_posix() for path in sorted(directory.rglob("*")) if path.is_file()]
    names.sort(key=lambda name: name == MANIFEST_HASH)
    total = sum((directory / name).stat().st_size for name in names)
    done = 0
    with run.step("upload") as step, _explained(url):
        if there.files.exists(there.path):
            raise BackupFailed(say("there is a backup {name} already", name=there.url), hint=say("Run this again."))
        try:
            for name in names:
                if not _is_flat(there.files):
                    there.files.makedirs(f"{there.path}/{name}".rpartition("/")[0], exist_ok=True)
                there.files.put_file(str(directory / name), f"{there.path}/{name}")
                done += (directory / name).stat().st_size
                run.listener.progress("upload", done, total, "bytes")
        except BaseException:
            with suppress(Exception):  # it does not look like a backup anyway
                there.files.rm(there.path, recursive=True)
            raise
        step.detail = say("{count} files to {url}", count=len(names), url=there.url)
    return there.url


def download(run: Run, url: str, into: Path) -> Path:
    """Copy a backup from a URL into an empty directory that is ours alone; return where it is."""
    there = _open(url)
    directory = into / (there.path.rpartition("/")[2] or "backup")
    directory.mkdir(mode=0o700)
    with run.step("download") as step, _explained(url):
        if not there.files.exists(f"{there.path}/{MANIFEST_HASH}"):
            raise BackupFailed(
                say("{path} is not a whole backup: it has no manifest", path=there.url),
                hint=say("`tool backup list` shows those there are."),
            )
        found = there.files.find(there.path, detail=True)
        done, total = 0, sum(int(entry["size"] or 0) for entry in found.values())
        _require_room(into, total)
        for path, entry in sorted(found.items()):
            target = directory / str(path)[len(there.path) :].lstrip("/")
            if not target.resolve().is_relative_to(directory.resolve()):
                raise BackupFailed(say("{path} is no part of a backup", path=path), hint=say("Look at that storage."))
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            there.files.get_file(path, str(target))
            target.chmod(0o600)
            done += int(entry["size"] or 0)
            run.listener.progress("download", done, total, "bytes")
        step.detail = say("{count} files from {url}", count=len(found), url=there.url)
    return directory


def _require_room(directory: Path, size: int) -> None:
    """Refuse where what is to be fetched has no room here."""
    free = shutil.disk_usage(directory).free
    if free < size:
        raise BackupFailed(
            say("the disk of {path} has {free} MB free; the backup needs {need} MB or more",
                path=directory, free=free // 2**20, need=size // 2**20),
            hint=say("Make room there, or set ROLLOUT_DIR to a directory on a larger disk."),
        )  # fmt: skip


def upload_proof(directory: Path, url: str) -> None:
    """Put the proof of a backup that was fetched beside the one it was fetched from."""
    there = _open(url)
    with _explained(url):
        there.files.put_file(str(directory / PROOF), f"{there.path}/{PROOF}")


@contextmanager
def at_hand(run: Run, backups: Path, path: str) -> Iterator[Path]:
    """Yield the directory of a backup that is named by a path, or fetched from a URL for as long as the block runs."""
    if not is_url(path):
        yield Path(path)
        return
    with working_in(backups / f".{run.run_id}-fetched.partial") as scratch:
        directory = download(run, path, scratch)
        backup_manifest.read(directory)
        yield directory
