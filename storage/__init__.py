"""What is remembered: studies, trials and measurements in SQL. Imports no torch."""

from storage.lease import StudyOwned
from storage.records import (
    MeasurementKind,
    NewStudy,
    NewTrial,
    Provenance,
    StudyRecord,
    StudyState,
    TrialRecord,
    TrialState,
)
from storage.store import Store

__all__ = [
    "MeasurementKind",
    "NewStudy",
    "NewTrial",
    "Provenance",
    "Store",
    "StudyOwned",
    "StudyRecord",
    "StudyState",
    "TrialRecord",
    "TrialState",
]
