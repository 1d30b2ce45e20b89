"""Fixtures live in one plugin per concern, under tests/fixtures/."""

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.upgraded",
    "tests.fixtures.legacy",
    "tests.fixtures.migrated",
]
