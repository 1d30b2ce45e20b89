"""Alembic's entry: `tool` hands over its connection; plain `alembic` gets one from DATABASE_URL."""

import sys

from alembic import context

from rollout import environment
from rollout.errors import RolloutError

try:
    environment.run(context)
except RolloutError as error:
    if "connection" in context.config.attributes:
        raise
    sys.stderr.write(f"error: {error.message}\nhint:  {error.hint}\nThe database is {error.database}.\n")
    raise SystemExit(error.exit_code) from None
