from __future__ import annotations

import re

import pytest

from spaces import METHODS, InvalidInput, parse_space
from spaces.catalogue import describe_method, fitting_presets
from spaces.domains import parse_setting
from tests.tiny import DEIT_SMALL, SEGVIT_BASE

PRESETS = [(method, preset) for method, (_, space) in METHODS.items() for preset in space.presets]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_what_it_does_and_where_it_comes_from(method):
    config, _ = METHODS[method]
    assert re.fullmatch(r"\d{4}\.\d{5}", config.paper)
    assert 20 <= len(config.summary) <= 100
    assert "\n" not in config.summary


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_both_presets(method):
    assert describe_method(method).presets == ("paper", "full")


@pytest.mark.parametrize(("method", "preset"), PRESETS)
def test_whatever_is_shown_of_a_preset_can_be_set(method, preset):
    for setting in describe_method(method).settings:
        shown = setting.presets.get(preset, "any block")
        if shown not in ("any block", "any heads", "as many as the model allows", "by default"):
            changed = parse_space(method, preset, {setting.name: parse_setting(shown)})
            assert getattr(changed, setting.name) == getattr(parse_space(method, preset), setting.name)


@pytest.mark.parametrize(("method", "preset"), PRESETS)
def test_what_is_searched_is_what_a_sampler_draws(method, preset):
    config, _ = METHODS[method]
    model = SEGVIT_BASE if config.predicts_every_patch else DEIT_SMALL
    space = parse_space(method, preset)
    drawn = {each.name for each in space.parameters(model)}
    searched = describe_method(method).searched(preset)
    of_layers = {name for name in drawn if re.search(r"_\d+$", name)}
    names = {re.sub(r"_\d+$", "", name) for name in of_layers} | (drawn - of_layers)
    assert {space.drawn_as.get(name, name) for name in names} == searched.keys()


def test_zero_tprune_is_described_as_its_page_describes_it():
    entry = describe_method("zero_tprune")
    assert entry.searched("paper") == {
        "n_layers": "3:6",
        "keep_rate": "0.3:1.0",
        "after": "any block",
        "iterations": "1:50:log",
        "s": "0:30",
    }
    assert entry.searched("full")["vhf"] == "true,false"
    by_name = {setting.name: setting for setting in entry.settings}
    assert by_name["keep_rate"].values == "a list, each above 0, up to 1"
    assert by_name["iterations"].values == "whole, from 1, up to 1000; or a list; or null"
    assert (by_name["s"].default, by_name["after"].default, by_name["n_layers"].values) == ("10", "", "")
    assert by_name["vhf"].values == "true, false"


def test_a_class_token_is_needed_where_models_without_one_are_refused():
    assert describe_method("zero_tprune").class_token == "needed by paper"
    assert describe_method("random_drop").class_token == "not needed"


def test_a_preset_fits_a_model_with_blocks_for_its_layers():
    assert fitting_presets("random_drop", DEIT_SMALL) == ("paper", "full")
    assert fitting_presets("random_drop", DEIT_SMALL.model_copy(update={"depth": 3})) == ("full",)


def test_an_unknown_method_names_those_there_are():
    with pytest.raises(InvalidInput, match="the methods are zero_tprune"):
        describe_method("magic")
