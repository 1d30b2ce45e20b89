"""How long ``tool --help`` takes."""

from __future__ import annotations

import statistics

from measuring import BIN, timed, within

LIMIT = 0.6


def measure(*, users: int, rounds: int) -> bool:  # noqa: ARG001 - every benchmark is called alike
    """Time ``tool --help`` a few times."""
    timed([BIN / "tool", "--help"], {})
    seconds = [timed([BIN / "tool", "--help"], {}).seconds for _ in range(max(rounds, 5))]
    return within("tool --help", statistics.median(seconds), LIMIT, "s")
