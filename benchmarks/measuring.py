"""Time whole processes, with the memory they took."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Measured:
    """One run: wall seconds, the peak memory of the process itself in bytes, and CPU seconds where they were taken."""

    seconds: float
    peak: int
    cpu: float = 0.0


def timed(command: Sequence[str | Path], environment: dict[str, str]) -> Measured:
    """Run a command to its end; raise where it fails."""
    output, code, measured = _run(command, environment, stderr=subprocess.STDOUT)
    if code:
        raise SystemExit(f"{command} failed ({code}):\n{output.decode(errors='replace')[-2000:]}")
    return measured


def told(command: Sequence[str | Path], environment: dict[str, str]) -> tuple[dict[str, Any], Measured]:
    """Run a command of ours with ``--json``; return what it says, and its measures; raise where it fails."""
    output, code, measured = _run(command, environment, stderr=subprocess.DEVNULL)
    values: dict[str, Any] = json.loads(output)
    assert code == 0, values
    return values, measured


def _run(command: Sequence[str | Path], environment: dict[str, str], *, stderr: int) -> tuple[bytes, int, Measured]:
    """Run a command to its end; return its output, its exit code, and its measures.

    Its modules stay compiled, as those of an installed program are.
    """
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**compiled, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    return output, process.returncode, Measured(time.perf_counter() - begin, usage.ru_maxrss * 1024)


def compare(name: str, ours: list[Measured], theirs: list[Measured], limit: float) -> bool:
    """Print the median of the ratios, pair by pair, beside its limit; tell whether it holds."""
    ratios = sorted(one.seconds / other.seconds for one, other in zip(ours, theirs, strict=True))
    ratio = statistics.median(ratios)
    print(
        f"{name}: {statistics.median(m.seconds for m in ours):.2f} s"
        f" / {statistics.median(m.seconds for m in theirs):.2f} s"
        f" = {ratio:.2f} (pairs {ratios[0]:.2f} to {ratios[-1]:.2f}; limit {limit})"
    )
    if all(one.cpu and other.cpu for one, other in zip(ours, theirs, strict=True)):
        cpu = statistics.median(one.cpu / other.cpu for one, other in zip(ours, theirs, strict=True))
        print(f"  CPU: {statistics.median(m.cpu for m in ours):.2f} s, {cpu:.2f} times theirs")
    return ratio <= limit


def within(name: str, value: float, limit: float, unit: str) -> bool:
    """Print a figure beside its limit; tell whether it holds."""
    print(f"{name}: {value:.2f} {unit} (limit {limit} {unit})")
    return value <= limit
