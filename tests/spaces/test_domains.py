from __future__ import annotations

import pytest
from pydantic import ValidationError

from spaces import InvalidInput
from spaces.domains import Choice, FloatRange, IntRange, parse_setting


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("0.7", 0.7),
        ("3", 3),
        ("true", True),
        ("cosine", "cosine"),
        ("I'-S-I", "I'-S-I"),
        ("1e-3:0.3:log", FloatRange(low=1e-3, high=0.3, log=True)),
        ("1:8", IntRange(low=1, high=8)),
        ("true,false", Choice(values=(True, False))),
        ("[0.9, 0.8]", [0.9, 0.8]),
    ],
)
def test_settings_are_read_as_they_are_written(text, setting):
    found = parse_setting(text)
    assert found == setting
    assert type(found) is type(setting)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:b", "with numbers"),
        ("3:1", "LOW < HIGH"),
        ("0:1:log", "LOW > 0"),
        ("1:2:3", "a range is"),
        ("[3, 6", "list"),
    ],
)
def test_what_reads_as_no_setting_is_refused(text, message):
    with pytest.raises(InvalidInput, match=message):
        parse_setting(text)


def test_an_empty_choice_is_no_choice():
    with pytest.raises(ValidationError, match="at least 1 item"):
        Choice(values=())
