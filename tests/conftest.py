"""Fixtures live in one plugin per concern, under tests/fixtures/."""

import signal

# A shell's background job starts with Ctrl-C ignored, nohup with SIGHUP: so would everything that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.upgraded",
    "tests.fixtures.legacy",
    "tests.fixtures.migrated",
]
