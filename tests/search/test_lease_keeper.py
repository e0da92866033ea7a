from __future__ import annotations

import time

import pytest

from search.lease_keeper import LeaseKeeper
from storage import Store, StudyOwned
from storage.lease import new_owner
from tests.storage.records import new_study


@pytest.fixture
def store(tmp_path):
    with Store(f"sqlite:///{tmp_path}/test.db", create=True) as made:
        made.create_study(new_study())
        yield made


def test_the_lease_lives_as_long_as_its_driver_works(store):
    with LeaseKeeper(store, 1, lease_s=0.3) as keeper:
        time.sleep(1.0)
        keeper.check()
        with pytest.raises(StudyOwned):
            store.take_lease(1, new_owner(), 60)
    store.take_lease(1, new_owner(), 60)


def test_a_driver_that_lost_its_study_is_told(store):
    with LeaseKeeper(store, 1, lease_s=0.3) as keeper:
        store.release_lease(1, keeper._owner)  # as if the machine had slept beyond the lease
        store.take_lease(1, other := new_owner(), 60)
        time.sleep(0.4)
        with pytest.raises(StudyOwned, match="taken this study over"):
            keeper.check()
    assert store.study("first").owner == other
