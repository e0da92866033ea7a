"""The small model and its images that the command line is tested on."""

from tests.search.conftest import place

__all__ = ["place"]
