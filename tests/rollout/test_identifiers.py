"""Names that need care reach the server as they are, whichever way a statement takes."""

from sqlalchemy import text

from rollout.database import engine_for, identifier, in_text, quote
from tests.fixtures.databases import execute

NAME = 'odd %s "quoted" :a %%'


def test_each_way_has_its_quoting(database):
    """Percent signs, colons and quotes: through the driver, through text(), as a value, and as people type it."""
    execute(database, 'CREATE TABLE "odd %s ""quoted"" :a %%" ("50 % :b" int)')
    with engine_for(database).connect() as connection:
        assert connection.exec_driver_sql(f"SELECT {quote('50 % :b')} FROM {quote(NAME)}").all() == []
        asked = f"SELECT {in_text('50 % :b')} FROM {in_text('public', NAME)} WHERE {in_text('50 % :b')} = :one"
        assert connection.execute(text(asked), {"one": 1}).all() == []
        found = connection.execute(text("SELECT to_regclass(:name)"), {"name": identifier("public", NAME)})
        assert found.scalar_one() is not None
    assert identifier("public", NAME) == 'public."odd %s ""quoted"" :a %%"'
