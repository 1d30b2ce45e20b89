"""What all models share: naming convention, types of columns that occur in many tables, the CHECK of allowed values.

Comments on tables and columns are part of the schema and in Chinese, the platform's language; tables of the legacy core
have none. Models import types at run time: SQLAlchemy reads the annotations.
https://docs.sqlalchemy.org/en/21/orm/declarative_tables.html#mapping-whole-column-declarations-to-python-types
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, MetaData, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}
"""Names of constraints and indexes; PostgreSQL cuts names at 63 bytes, so a longer one is given literally."""


class Base(DeclarativeBase):
    """Base of all models."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        UUID: Uuid,
    }


Key = Annotated[UUID, mapped_column(primary_key=True, server_default=text("gen_random_uuid()"), comment="主键")]
CreatedAt = Annotated[datetime, mapped_column(server_default=func.now(), comment="创建时间")]
UpdatedAt = Annotated[datetime, mapped_column(server_default=func.now(), comment="更新时间")]
LegacyTime = Annotated[datetime, mapped_column(server_default=func.now())]
JsonObject = Annotated[dict[str, Any], mapped_column(JSONB, server_default=text("'{}'::jsonb"))]
JsonList = Annotated[list[Any], mapped_column(JSONB, server_default=text("'[]'::jsonb"))]
Count = Annotated[int, mapped_column(server_default=text("0"))]
Yes = Annotated[bool, mapped_column(server_default=text("true"))]
No = Annotated[bool, mapped_column(server_default=text("false"))]


def one_of(column: str, *values: str) -> CheckConstraint:
    """Return the CHECK, named after the column, that allows only these values in it."""
    literals = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({literals})", name=column)
