from __future__ import annotations

import pytest

from docs.reference import PAGES


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_generated_pages_are_what_the_program_says(path):
    assert path.read_text() == PAGES[path](), "run make docs"
