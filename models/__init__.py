"""What the schema is now: one module for each family of tables."""

from models import (
    accounts,
    auth,
    core,
    credits,  # noqa: A004 - the family's name
    enterprise,
    levels,
    matching,
    memberships,
    pagtive,
    penalties,
    points,
)
from models.base import Base

__all__ = [
    "accounts",
    "auth",
    "core",
    "credits",
    "enterprise",
    "levels",
    "matching",
    "memberships",
    "metadata",
    "pagtive",
    "penalties",
    "points",
]

metadata = Base.metadata
