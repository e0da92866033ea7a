"""What is remembered: studies, trials, measurements and jobs in SQL. Imports no torch."""

from storage.job_records import JobKind, JobRecord, JobState
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
    "JobKind",
    "JobRecord",
    "JobState",
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
