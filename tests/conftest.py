"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.postgres import PostgresServer


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed():
    """Make float results the same in every test run on one machine."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server for all tests that ask for one."""
    with PostgresServer() as server:
        yield server
