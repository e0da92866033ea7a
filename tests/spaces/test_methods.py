from __future__ import annotations

import json

import pytest

from spaces import InvalidInput, RandomDrop, ZeroTPrune, layout_document, parse_layout, parse_space, read_layout

LAYOUT = ZeroTPrune(after=(3, 6), keep_rate=(0.7, 0.8))


def test_a_document_reads_back_as_its_layout():
    document = json.loads(json.dumps(layout_document(LAYOUT, measured={"top1_pct": 79.0})))
    assert parse_layout(document) == LAYOUT


@pytest.mark.parametrize("name", ["layout.json", "layout.yaml"])
def test_a_file_of_bare_settings_is_a_layout(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"method": "random_drop", "after": [3], "keep_rate": [0.5]}')
    assert read_layout(path) == RandomDrop(after=(3,), keep_rate=(0.5,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "magic"}, "method must be one of zero_tprune, random_drop, got 'magic'"),
        ({}, "got None"),
        ({"format": "prunefront-layout", "version": 2, "layout": {}}, "version 1, got 'prunefront-layout', version 2"),
        ({"layout": {"method": "random_drop"}}, "version None"),
        ({"method": "random_drop", "after": [3]}, "keep_rate: Field required"),
    ],
)
def test_what_is_no_layout_is_refused(values, message):
    with pytest.raises(InvalidInput, match=message):
        parse_layout(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "neither JSON nor YAML"), ("[1, 2]", "must hold a mapping"), (None, "cannot read")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, text, message):
    path = tmp_path / "broken.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInput, match=message) as error:
        read_layout(path)
    assert "broken.json" in str(error.value)


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(InvalidInput, match=r"no setting 'keeprate'; did you mean keep_rate\?"):
        parse_space("zero_tprune", settings={"keeprate": 0.5})


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(InvalidInput, match="presets of zero_tprune are paper, full, got 'huge'"):
        parse_space("zero_tprune", "huge")


def test_a_setting_out_of_its_values_is_refused():
    with pytest.raises(InvalidInput, match="feature"):
        parse_space("zero_tprune", settings={"feature": "colour"})
