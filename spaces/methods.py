"""The methods there are, and how a layout or a space is read from plain values."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from spaces.attention_rank import AttentionRank, AttentionRankSpace
from spaces.base import PruningConfig, SearchSpace
from spaces.bat import Bat, BatSpace
from spaces.cls_topk import CLSTopK, CLSTopKSpace
from spaces.errors import InvalidInput
from spaces.random_drop import RandomDrop, RandomDropSpace
from spaces.tome import ToMe
from spaces.tome_space import ToMeSpace
from spaces.zero_tprune import ZeroTPrune, ZeroTPruneSpace

__all__ = [
    "LAYOUT_FORMAT",
    "LAYOUT_VERSION",
    "METHODS",
    "layout_document",
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


def parse_space(method: str, preset: str = "paper", settings: Mapping[str, Any] | None = None) -> SearchSpace:
    """Build a space from a preset and what is set over it.

    A layer setting given as a list fixes the number of layers too.

    Raises:
        InvalidInput: unknown method, preset or setting, or a setting out of its range.
    """
    settings = settings or {}
    _, space = METHODS[_method_of({"method": method})]
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
