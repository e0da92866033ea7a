"""What all tests share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed():
    """Make float results the same in every test run on one machine."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
