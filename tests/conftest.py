"""Fixtures live in one plugin per concern, under tests/fixtures/."""

import signal

# A shell that runs a job in the background starts it with Ctrl-C ignored, and so would everything that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.upgraded",
    "tests.fixtures.legacy",
    "tests.fixtures.migrated",
]
