from __future__ import annotations

import json

import pytest

from spaces import InvalidInput, RandomDrop, ZeroTPrune, layout_document, parse_layout, parse_space, read_layout
from spaces.domains import Choice, FloatRange
from spaces.methods import read_document

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
        ({"method": "magic"}, "method must be one of zero_tprune, .*, got 'magic'"),
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


def test_numbers_in_yaml_are_not_read_as_minutes_and_seconds(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("iterations: 1:50\nkeep_rate: 0.5:1\nv_min: 1e-3\ns: -3\nafter: [3, 6.5]\nvhf: true\n")
    assert read_document(path) == {
        "iterations": "1:50",
        "keep_rate": "0.5:1",
        "v_min": 0.001,
        "s": -3,
        "after": [3, 6.5],
        "vhf": True,
    }


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("after", 3, r"after takes a range LOW:HIGH or a list like \[3, 6, 9\] \(got 3\)"),
        ("s", Choice(values=(5, 10)), r"s takes a range LOW:HIGH or a whole number or a list .* \(got 5,10\)"),
        ("v_min", FloatRange(low=0.001, high=0.5), "v_min must stay below v_max .* up to 0.5 and from 0.3"),
        ("v_max", float("inf"), r"v_max takes .* a number .*\(got inf\)"),
        ("after", [], "after must name at least one pruning layer"),
        ("feature", "kex", r"feature takes choices A,B or one of .* \(got 'kex'\)"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused_in_plain_words(name, setting, message):
    with pytest.raises(InvalidInput, match=message) as raised:
        parse_space("zero_tprune", "full", {name: setting})
    assert "function-" not in str(raised.value)
    assert "tuple[" not in str(raised.value)


def test_a_method_that_is_no_name_is_refused():
    with pytest.raises(InvalidInput, match="method must be one of"):
        parse_layout({"method": ["random_drop"], "after": [1], "keep_rate": [0.5]})


def test_infinite_settings_are_refused():
    with pytest.raises(InvalidInput, match="finite"):
        parse_layout({"method": "zero_tprune", "after": [1], "keep_rate": [0.5], "v_max": float("inf")})
