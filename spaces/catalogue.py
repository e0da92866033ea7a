"""What there is to know of a method: what it does, its settings, what its presets search, on which models it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spaces.architecture import Architecture
from spaces.base import PruningConfig, SearchSpace
from spaces.dense_head import DenseHead
from spaces.domains import Choice, FloatRange, IntRange, ParameterValue
from spaces.errors import InvalidInput
from spaces.method_choice import METHOD
from spaces.methods import METHODS, method_names, parse_space

__all__ = ["MethodEntry", "SettingEntry", "describe_method", "fitting_presets"]

# A DeiT-S, and the same with mean pooling instead of its class token; then both as segmenters.
_WITH_CLASS_TOKEN = Architecture(
    name="deit_small_patch16_224",
    image_size=(224, 224),
    patch_size=(16, 16),
    depth=12,
    dim=384,
    n_heads=6,
    attention_dim=384,
    mlp_dim=1536,
)
_WITHOUT_CLASS_TOKEN = _WITH_CLASS_TOKEN.model_copy(update={"n_prefix": 0, "has_class_token": False, "pool": "mean"})
_SEGMENTERS = tuple(
    each.model_copy(
        update={"heads": tuple(DenseHead(after=after, kind="atm", channels=192, n_layers=3) for after in (6, 8, 12))}
    )
    for each in (_WITH_CLASS_TOKEN, _WITHOUT_CLASS_TOKEN)
)
_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "below"}


@dataclass(frozen=True)
class SettingEntry:
    """One setting of a method.

    Attributes:
        name: of the setting.
        values: that a layout takes, in words; empty where only a space has the setting.
        default: of a layout; empty where there is none.
        presets: for each preset the value or what is searched, as ``--set`` takes it; none where only a layout has it.
        searched_by: the presets that search it.
    """

    name: str
    values: str
    default: str
    presets: Mapping[str, str]
    searched_by: tuple[str, ...]


@dataclass(frozen=True)
class MethodEntry:
    """One method.

    Attributes:
        name: as it is typed.
        summary: which tokens it takes away.
        paper: its arXiv number.
        presets: of its space.
        presets_without_class_token: those of them that a model without a class token allows.
        settings: of its layouts and its space.
    """

    name: str
    summary: str
    paper: str
    presets: tuple[str, ...]
    presets_without_class_token: tuple[str, ...]
    settings: tuple[SettingEntry, ...]

    @property
    def class_token(self) -> str:
        """Say in words whether the model must have a class token."""
        if not self.presets_without_class_token:
            return "needed"
        needing = [preset for preset in self.presets if preset not in self.presets_without_class_token]
        return f"needed by {', '.join(needing)}" if needing else "not needed"

    def searched(self, preset: str) -> dict[str, str]:
        """Give what a preset searches: for each such setting, its range or choices."""
        return {setting.name: setting.presets[preset] for setting in self.settings if preset in setting.searched_by}


def describe_method(name: str) -> MethodEntry:
    """Collect what there is to know of a method.

    >>> describe_method("random_drop").searched("paper")
    {'n_layers': '3:6', 'keep_rate': '0.3:1.0', 'after': 'any block'}

    Raises:
        InvalidInput: there is no such method.
    """
    (name,) = method_names([name])
    config, space_type = METHODS[name]
    spaces = {preset: parse_space(name, preset) for preset in space_type.presets}
    drawn = {preset: _drawn_settings(space) for preset, space in spaces.items()}
    _, without_class_token = _examples(config)
    of_layout = config.model_json_schema()["properties"]
    return MethodEntry(
        name=name,
        summary=config.summary,
        paper=config.paper,
        presets=tuple(spaces),
        presets_without_class_token=fitting_presets(name, without_class_token),
        settings=tuple(
            SettingEntry(
                name=setting,
                values=_values(of_layout[setting]) if setting in of_layout else "",
                default=_written(of_layout[setting]["default"]) if "default" in of_layout.get(setting, {}) else "",
                presets={
                    preset: _setting_text(setting, space, is_searched=setting in drawn[preset])
                    for preset, space in spaces.items()
                    if setting in space_type.model_fields
                },
                searched_by=tuple(preset for preset in spaces if setting in drawn[preset]),
            )
            for setting in dict.fromkeys([*space_type.model_fields, *config.model_fields])
            if setting != METHOD
        ),
    )


def fitting_presets(method: str, architecture: Architecture) -> tuple[str, ...]:
    """Name the presets of a method that can prune a model."""
    presets = METHODS[method][1].presets
    return tuple(preset for preset in presets if _fits(parse_space(method, preset), architecture))


def _fits(space: SearchSpace, architecture: Architecture) -> bool:
    try:
        draw = {each.name: _first(each.domain) for each in space.parameters(architecture)}
        space.build(draw, architecture).cost(architecture)
    except InvalidInput:
        return False
    return True


def _first(domain: IntRange | FloatRange | Choice) -> ParameterValue:
    return domain.values[0] if isinstance(domain, Choice) else domain.low


def _drawn_settings(space: SearchSpace) -> set[str]:
    """Name the settings that are searched, whatever the number of layers for which each is drawn."""
    config, _ = METHODS[space.method]
    names = {each.name for each in space.parameters(_examples(config)[0])}
    names = {name if name in type(space).model_fields else re.sub(r"_\d+$", "", name) for name in names}
    return {space.drawn_as.get(name, name) for name in names}


def _examples(config: type[PruningConfig]) -> tuple[Architecture, Architecture]:
    """Give a model that a method can prune, with and without a class token."""
    with_token, without_token = _SEGMENTERS
    return (with_token, without_token) if config.predicts_every_patch else (_WITH_CLASS_TOKEN, _WITHOUT_CLASS_TOKEN)


def _setting_text(name: str, space: SearchSpace, *, is_searched: bool) -> str:
    setting = getattr(space, name)
    if setting is None and is_searched:
        return space.any_place if name in ("after", "inside", "in_attention") else "as many as the model allows"
    if setting is None:
        return "by default"
    if isinstance(setting, Choice):
        return ",".join(map(_written, setting.values))
    return str(setting) if isinstance(setting, IntRange | FloatRange) else _written(setting)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _values(schema: Mapping[str, Any]) -> str:
    """Say in words which values a JSON schema allows.

    >>> _values({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "array", "items": {"type": "integer"}}]})
    'whole, from 0; or a list'
    """
    options = schema.get("anyOf", [schema])
    lists = [option for option in options if option.get("type") == "array"]
    single = [_scalar(option) for option in options if option.get("type") not in ("array", "null")]
    texts = [" or ".join(single)] if single else []
    if lists:
        texts.append("or a list" if single else f"a list, each {_scalar(lists[0]['items'])}")
    if any(option.get("type") == "null" for option in options):
        texts.append("or null")
    return "; ".join(texts)


def _scalar(schema: Mapping[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return ", ".join(map(_written, schema.get("enum") or [schema["const"]]))
    if schema["type"] == "boolean":
        return "true, false"
    if schema["type"] == "string":
        return "text"
    parts = ["whole"] if schema["type"] == "integer" else []
    parts += [f"{word} {schema[bound]}" for bound, word in _BOUNDS.items() if bound in schema]
    return ", ".join(parts) or "any number"
