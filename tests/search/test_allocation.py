from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import torch
from search.allocation import keep_freed_memory

torch.set_num_threads(1)
assert keep_freed_memory()

def work():
    for _ in range(50):
        held = [torch.ones(2_000_000) for _ in range(3)]  # 8 MB each
        del held

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_memory_that_is_kept_is_not_faulted_in_again():
    # Without it glibc may keep the memory too, if something small happens to lie behind it; so that is not compared.
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # of 293,000 pages
