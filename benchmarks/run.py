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
    "start-up": start_up.measure,
    "upgrade": upgrade.measure,
    "backup": backup.measure,
    "rollback": rollback.measure,
    "pagtive": pagtive.measure,
    "verify": verify.measure,
}


def main() -> int:
    """Run the chosen benchmarks (all by default); 1 where one is past its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", default=list(SUBJECTS), metavar=f"{{{','.join(SUBJECTS)}}}")
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--programs", type=Path, help="pagtive: the bin directory of another PostgreSQL")
    parser.add_argument("--page-bytes", type=int, nargs=2, default=pagtive.PAGE_BYTES, help="pagtive: least and most")
    options = parser.parse_args()
    unknown = set(options.subjects) - set(SUBJECTS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}")
    pagtive.PROGRAMS = options.programs
    pagtive.PAGE_BYTES = tuple(options.page_bytes)
    ok = True
    for subject in options.subjects:
        print(f"== {subject}")
        ok = SUBJECTS[subject](users=options.users, rounds=options.rounds) and ok
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
