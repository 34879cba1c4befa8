"""Where searches are kept, when it refuses."""

import pytest
import sqlalchemy

from optsweep.config.checks import InputError
from optsweep.search.storage import answering, sqlite_url


def test_a_database_without_room_is_said_in_a_line(tmp_path):
    url = sqlite_url(tmp_path)
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    full = pytest.raises(InputError, match=r"study\.db cannot be used: .*is full")
    with full as raised, answering(url), engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=2")
        connection.exec_driver_sql("CREATE TABLE rows (text TEXT)")
        connection.exec_driver_sql("INSERT INTO rows VALUES (zeroblob(100000))")
    assert "\n" not in str(raised.value)


def test_other_mistakes_with_a_database_are_bugs(tmp_path):
    url = sqlite_url(tmp_path)
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    bug = pytest.raises(sqlalchemy.exc.IntegrityError)
    with bug, answering(url), engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE rows (text TEXT NOT NULL)")
        connection.exec_driver_sql("INSERT INTO rows VALUES (NULL)")
