"""Keep a study's lease alive while its driver works, however long one candidate takes."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from spaces import PrunefrontError
from storage import Store
from storage.database import DatabaseError
from storage.lease import new_owner
from storage.patience import DatabaseAway

__all__ = ["LeaseKeeper"]

_LEASE_S = 60.0


class LeaseKeeper:
    """Holds a study for the length of a ``with``, and renews its lease from a thread of its own.

    What goes wrong there (another driver took the study) is raised by ``check``. A database that is away takes no
    lease from anybody: it is renewed when the database is back.
    """

    def __init__(self, store: Store, study_id: int, *, lease_s: float = _LEASE_S, take_over: bool = False) -> None:
        self._store, self._study_id, self._lease_s, self._take_over = store, study_id, lease_s, take_over
        self._owner = new_owner()
        self._done = threading.Event()
        self._error: PrunefrontError | None = None
        self._thread = threading.Thread(target=self._keep, name="lease keeper", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease. Raises StudyOwned if another driver holds it."""
        self._store.take_lease(self._study_id, self._owner, self._lease_s, take_over=self._take_over)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        with suppress(DatabaseError):  # a lease that cannot be given back runs out by itself
            self._store.release_lease(self._study_id, self._owner)

    def check(self) -> None:
        """Raise what went wrong with the lease, if anything did."""
        if self._error is not None:
            raise self._error

    def _keep(self) -> None:
        wait_s = self._lease_s / 3
        while not self._done.wait(wait_s):
            wait_s = self._lease_s / 3
            try:
                self._store.renew_lease(self._study_id, self._owner, self._lease_s)
            except DatabaseAway:
                wait_s = min(1.0, wait_s)
            except PrunefrontError as error:
                self._error = error
                return
