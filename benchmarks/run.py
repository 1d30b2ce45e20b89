"""Measure ratios against the limits: ``make bench``, or ``python benchmarks/run.py upgrade --users 100000``.

Every figure is a ratio of two whole processes that took turns on one machine; single times say more about the machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import backup
import pagtive
import rollback
import start_up
import upgrade
import verify

SUBJECTS = {
    "start-up": (start_up.measure, 500_000),
    "upgrade": (upgrade.measure, 500_000),
    "backup": (backup.measure, 500_000),
    "rollback": (rollback.measure, 1_000_000),
    "pagtive": (pagtive.measure, 4_000),
    "verify": (verify.measure, 1_000_000),
}
"""What measures each subject, and with how many users."""


def main() -> int:
    """Run the chosen benchmarks (all by default); 1 where one is past its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", default=list(SUBJECTS), metavar=f"{{{','.join(SUBJECTS)}}}")
    parser.add_argument("--users", type=int, help="default: as many as the limits are about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--programs", type=Path, help="pagtive: the bin directory of another PostgreSQL")
    parser.add_argument("--page-bytes", type=int, nargs=2, default=pagtive.PAGE_BYTES, help="pagtive: least and most")
    options = parser.parse_args()
    unknown = set(options.subjects) - set(SUBJECTS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}")
    pagtive.PROGRAMS = options.programs
    pagtive.PAGE_BYTES = tuple(options.page_bytes)
    sys.stdout.reconfigure(line_buffering=True)  # figures show as they come, in a file too
    ok = True
    for subject in options.subjects:
        print(f"== {subject}")
        measure, users = SUBJECTS[subject]
        ok = measure(users=options.users or users, rounds=options.rounds) and ok
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
