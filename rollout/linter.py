"""What squawk says of the SQL that revisions produce (https://squawkhq.com/docs/rules)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from rollout.errors import PreflightFailed
from rollout.messages import say

# Rules that the atomic mode answers in another way: all is one transaction, under locks taken at its start and with
# timeouts of its own; types are those of the facts that the schema is built from.
_ANSWERED = (
    "require-concurrent-index-creation", "constraint-missing-not-valid", "adding-not-nullable-field",
    "disallowed-unique-constraint", "require-statement-timeout", "prefer-bigint-over-int", "prefer-text-field",
    "prefer-identity",
)  # fmt: skip

_RUNNING = re.compile(r"^-- Running (?:upgrade|downgrade)\s+(?P<step>.*)$")


def lint(sql: str) -> list[dict[str, Any]]:
    """Return the linter's findings on a script [{revision, line, rule, message}], but for rules the design answers.

    Raises ``PreflightFailed`` where the linter cannot run: no findings would look like none found.
    """
    if not sql:
        return []
    program = Path(sys.executable).with_name("squawk")
    result = subprocess.run(  # noqa: S603 - our own dependency's program, fixed arguments
        [program, "--reporter", "json", "--pg-version", "12", "--exclude", ",".join(_ANSWERED)],
        input=sql,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if not result.stdout.strip():
        raise PreflightFailed(
            say("the linter did not run: {reason}", reason=(result.stderr.strip().splitlines() or ["-"])[0]),
            hint=say("Install the project's pinned requirements again: make setup"),
        )
    found = json.loads(result.stdout)
    lines = sql.splitlines()
    return [
        {
            "revision": _step_of(lines, one["line"]),
            "line": one["line"] + 1,
            "rule": one["rule_name"],
            "message": one["message"],
        }
        for one in found
    ]


def _step_of(lines: list[str], number: int) -> str:
    """Return the revision whose SQL stands at this line."""
    for line in reversed(lines[: number + 1]):
        match = _RUNNING.match(line)
        if match:
            return match["step"]
    return ""
