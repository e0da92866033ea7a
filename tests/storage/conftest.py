"""Every kind of database that a study can lie in, real ones."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine

from storage import Store
from tests.postgres import PostgresServer
from tests.storage.records import new_study


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Name an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/test.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    made = server.new_database()
    yield made
    server.drop_database(made)


@pytest.fixture
def store(url):
    with Store(url, create=True) as made:
        yield made


@pytest.fixture
def study(store):
    return store.create_study(new_study())


@pytest.fixture
def engine(url, store):
    """Open the store's database beside it, for SQL."""
    made = create_engine(url)
    yield made
    made.dispose()
