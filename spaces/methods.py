"""The methods there are, and how a layout or a space is read from plain values."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spaces.ats import Ats, AtsSpace
from spaces.attention_rank import AttentionRank, AttentionRankSpace
from spaces.base import PruningConfig, SearchSpace
from spaces.bat import Bat, BatSpace
from spaces.cls_topk import CLSTopK, CLSTopKSpace
from spaces.dtop import DToP
from spaces.dtop_space import DToPSpace
from spaces.errors import InvalidInput
from spaces.method_choice import METHOD, choice_of
from spaces.random_drop import RandomDrop, RandomDropSpace
from spaces.tome import ToMe
from spaces.tome_space import ToMeSpace
from spaces.zero_tprune import ZeroTPrune, ZeroTPruneSpace

__all__ = [
    "LAYOUT_FORMAT",
    "LAYOUT_VERSION",
    "METHODS",
    "flat_settings",
    "layout_document",
    "method_names",
    "parse_layout",
    "parse_space",
    "read_document",
    "read_layout",
]

METHODS: Mapping[str, tuple[type[PruningConfig], type[SearchSpace]]] = {
    "zero_tprune": (ZeroTPrune, ZeroTPruneSpace),
    "cls_topk": (CLSTopK, CLSTopKSpace),
    "attention_rank": (AttentionRank, AttentionRankSpace),
    "tome": (ToMe, ToMeSpace),
    "random_drop": (RandomDrop, RandomDropSpace),
    "bat": (Bat, BatSpace),
    "ats": (Ats, AtsSpace),
    "dtop": (DToP, DToPSpace),
}
LAYOUT_FORMAT = "prunefront-layout"
LAYOUT_VERSION = 1


class _YamlLoader(yaml.SafeLoader):
    """Reads numbers as YAML 1.2 does. In YAML 1.1, which PyYAML reads, ``1:50`` is 110: minutes and seconds."""

    yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML's own form
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_YamlLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^([-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan)$"),
    list("-+.0123456789"),
)


def layout_document(config: PruningConfig, **about: Any) -> dict[str, Any]:
    """Wrap a layout for a file: format, version, the layout, and what ``about`` says of it."""
    head = {"format": LAYOUT_FORMAT, "version": LAYOUT_VERSION}
    return head | {"layout": config.model_dump(mode="json")} | about


def parse_layout(values: Mapping[str, Any]) -> PruningConfig:
    """Read a layout from a document or from its bare settings.

    >>> parse_layout({"method": "random_drop", "after": [3], "keep_rate": [0.5]}).method
    'random_drop'

    Raises:
        InvalidInput: another format or version, an unknown method, or settings that do not fit it.
    """
    if "format" in values or "layout" in values:
        found = values.get("format"), values.get("version")
        if found != (LAYOUT_FORMAT, LAYOUT_VERSION):
            raise InvalidInput(
                f"a layout file says format {LAYOUT_FORMAT!r}, version {LAYOUT_VERSION}, got {found[0]!r}, "
                f"version {found[1]!r}"
            )
        values = values["layout"] if isinstance(values.get("layout"), Mapping) else {}
    config, _ = METHODS[_method_of(values)]
    return config.parse(values)


def read_layout(path: str | Path) -> PruningConfig:
    """Read a layout from a JSON or YAML file.

    Raises:
        InvalidInput: the file is missing, unreadable or no layout.
    """
    try:
        return parse_layout(read_document(path))
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def method_names(given: Any) -> tuple[str, ...]:
    """Read which methods a person names: one, several in one text or in a list, or ``all``.

    >>> method_names("random_drop,zero_tprune"), method_names(["random_drop"])
    (('random_drop', 'zero_tprune'), ('random_drop',))

    Raises:
        InvalidInput: no method, or one that is not there.
    """
    texts = given if isinstance(given, list | tuple) else [given]
    names = dict.fromkeys(name.strip() for text in texts for name in re.split("[,+]", str(text)))
    if list(names) == ["all"]:
        return tuple(METHODS)
    for name in names or [""]:
        if name not in METHODS:
            raise InvalidInput(f"the methods are {_names(METHODS)} (or all for all of them), got {name!r}")
    return tuple(names)


def parse_space(
    method: str | Sequence[str], preset: str = "paper", settings: Mapping[str, Any] | None = None
) -> SearchSpace:
    """Build a space from a preset and what is set over it.

    A layer setting given as a list fixes the number of layers too. With several methods the preset is each one's own,
    a setting of one method is written under its name (``zero_tprune.s``, or in a section ``zero_tprune``), and a
    setting without a method's name is one that they all have; a method's own comes before it.

    Raises:
        InvalidInput: unknown method, preset or setting, or a setting out of its range.
    """
    names = method_names(method)
    own = _settings_by_method(names, flat_settings(settings or {}))
    return choice_of([_parse_space(name, preset, own[name]) for name in names])


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write a method's section of settings as settings under its name.

    >>> flat_settings({"min_tokens": 4, "zero_tprune": {"s": 10}})
    {'min_tokens': 4, 'zero_tprune.s': 10}

    Raises:
        InvalidInput: a section holds no mapping.
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in METHODS:
            flat[name] = value
        elif isinstance(value, Mapping):
            flat |= {f"{name}.{setting}": of_method for setting, of_method in value.items()}
        else:
            raise InvalidInput(f"the section {name} must hold settings of {name}, got {value!r}")
    return flat


def _settings_by_method(methods: Sequence[str], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    own: dict[str, dict[str, Any]] = {method: {} for method in methods}
    shared: dict[str, Any] = {}
    for name, value in settings.items():
        method, dot, setting = name.partition(".")
        if not dot:
            shared[name] = value
        elif method in own:
            own[method][setting] = value
        else:
            raise InvalidInput(f"{name} is set, but {method!r} is not among the methods: {_names(methods)}")
    for name in shared:
        _require_shared(name, methods)
    return {method: shared | settings_of for method, settings_of in own.items()}


def _require_shared(name: str, methods: Sequence[str]) -> None:
    """Refuse a setting without a method's name that several methods do not all have."""
    if len(methods) == 1:
        return  # whose only method says itself that it has no such setting
    fields = {method: METHODS[method][1].model_fields.keys() - {METHOD} for method in methods}
    having = [method for method in methods if name in fields[method]]
    if len(having) == len(methods):
        return
    if having:
        raise InvalidInput(
            f"{name} is a setting of {_names(having)}, but not of all methods: say whose, such as {having[0]}.{name}"
        )
    known = sorted(set().union(*fields.values()))
    raise InvalidInput(f"none of {_names(methods)} has a setting {name!r}; did you mean {_nearest(name, known)}?")


def _parse_space(method: str, preset: str, settings: Mapping[str, Any]) -> SearchSpace:
    _, space = METHODS[method]
    if preset not in space.presets:
        raise InvalidInput(f"the presets of {method} are {_names(space.presets)}, got {preset!r}")
    unknown = [name for name in settings if name not in space.model_fields]
    if unknown:
        raise InvalidInput(
            f"{method} has no setting {unknown[0]!r}; did you mean {_nearest(unknown[0], space.model_fields)}?"
        )
    lengths = [len(value) for value in settings.values() if isinstance(value, list | tuple)]
    implied = {"n_layers": lengths[0]} if lengths and "n_layers" in space.model_fields else {}
    return space.parse({**space.presets[preset], **implied, **settings})


def read_document(path: str | Path) -> dict[str, Any]:
    """Read a JSON or YAML file that holds a mapping.

    Raises:
        InvalidInput: the file cannot be read as one.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        document = json.loads(text) if str(path).endswith(".json") else yaml.load(text, _YamlLoader)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        place = str(error).replace("\n", " ")
        raise InvalidInput(f"{path} is neither JSON nor YAML: {place}") from None
    if not isinstance(document, dict):
        raise InvalidInput(f"{path} must hold a mapping of names to values")
    return document


def _method_of(values: Mapping[str, Any]) -> str:
    method = values.get("method")
    if not isinstance(method, str) or method not in METHODS:
        raise InvalidInput(f"method must be one of {_names(METHODS)}, got {method!r}")
    return method


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _nearest(name: str, names: Iterable[str]) -> str:
    return difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)[0]
