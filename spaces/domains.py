"""What a setting may be: one fixed value, a range, or a choice; and the parameters a sampler draws."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spaces.errors import InvalidInput

__all__ = [
    "Choice",
    "FloatRange",
    "IntRange",
    "Parameter",
    "ParameterValue",
    "bounds",
    "parse_setting",
    "value_in",
]

ParameterValue = bool | int | float | str


class _Domain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class IntRange(_Domain):
    """Whole numbers from ``low`` to ``high``, both included; even on a log scale if ``log``."""

    kind: Literal["int"] = "int"
    low: int
    high: int
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        _check_range(self.low, self.high, self.log)
        return self

    def __str__(self) -> str:
        return f"{self.low}:{self.high}{':log' if self.log else ''}"


class FloatRange(_Domain):
    """Numbers from ``low`` to ``high``, both included; even on a log scale if ``log``."""

    kind: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        _check_range(self.low, self.high, self.log)
        return self

    def __str__(self) -> str:
        return f"{self.low}:{self.high}{':log' if self.log else ''}"


class Choice(_Domain):
    """One of a few values without an order."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[ParameterValue, ...], Field(min_length=1)]

    def __str__(self) -> str:
        return ",".join(map(str, self.values))


@dataclass(frozen=True)
class Parameter:
    """One number or name that a sampler draws for each candidate.

    Attributes:
        name: of the parameter.
        domain: what may be drawn.
        method: the method whose layouts alone depend on it; ``None`` where all do.
    """

    name: str
    domain: IntRange | FloatRange | Choice
    method: str | None = None


def bounds(setting: IntRange | FloatRange | float) -> tuple[float, float]:
    """Give the least and the most that a numeric setting may be; a fixed value is both.

    >>> bounds(IntRange(low=1, high=8)), bounds(0.7)
    ((1, 8), (0.7, 0.7))
    """
    if isinstance(setting, IntRange | FloatRange):
        return setting.low, setting.high
    return setting, setting


def value_in(setting: Any, drawn: ParameterValue | None) -> Any:
    """Give the drawn value where ``setting`` is a domain, and the setting itself where it is fixed."""
    return drawn if isinstance(setting, _Domain) else setting


def parse_setting(text: str) -> Any:
    """Read a setting as a command line gives it: a value, ``LOW:HIGH`` or ``A,B,C``.

    A range of whole numbers stays whole; ``:log`` behind it draws on a log scale. A list in brackets is one
    fixed value for each pruning layer. ``null`` leaves the setting to its default.

    >>> parse_setting("cosine"), parse_setting("[3, 6, 9]")
    ('cosine', [3, 6, 9])
    >>> parse_setting("0.5:1")
    FloatRange(kind='float', low=0.5, high=1.0, log=False)
    >>> parse_setting("1:50:log")
    IntRange(kind='int', low=1, high=50, log=True)
    >>> parse_setting("key,query")
    Choice(kind='choice', values=('key', 'query'))
    >>> parse_setting("null") is None
    True

    Raises:
        InvalidInput: ``text`` reads as none of these.
    """
    if text == "null":
        return None
    if not text.startswith("["):
        if "," in text:
            return Choice(values=tuple(_scalar(part) for part in text.split(",")))
        if ":" in text:
            return _parse_range(text)
        return _scalar(text)
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise InvalidInput(f"a list of fixed values is written [3, 6, 9], got {text!r}") from None


def _scalar(text: str) -> ParameterValue:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text.strip()
    return value if isinstance(value, bool | int | float) else text.strip()


def _parse_range(text: str) -> IntRange | FloatRange:
    low_text, _, rest = text.partition(":")
    high_text, _, scale = rest.partition(":")
    low, high = _scalar(low_text), _scalar(high_text)
    if isinstance(low, bool | str) or isinstance(high, bool | str) or scale not in ("", "log"):
        raise InvalidInput(f"a range is LOW:HIGH or LOW:HIGH:log with numbers, got {text!r}")
    try:
        if isinstance(low, int) and isinstance(high, int):
            return IntRange(low=low, high=high, log=scale == "log")
        return FloatRange(low=low, high=high, log=scale == "log")
    except ValueError:
        raise InvalidInput(f"a range needs LOW < HIGH, and LOW > 0 on a log scale, got {text!r}") from None


def _check_range(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low < high must hold, got low={low}, high={high}")
    if log and low <= 0:
        raise ValueError(f"a log scale needs low > 0, got low={low}")
