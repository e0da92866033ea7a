"""The errors of prunefront: one base, and the three that every package raises.

A message is one line: the rule, the value received and, where there is one, the remedy.
"""

from __future__ import annotations

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

__all__ = ["BudgetUnsatisfiable", "InvalidInput", "PrunefrontError", "UnsupportedModel", "describe_problems"]


class PrunefrontError(Exception):
    """Whatever prunefront refuses to do or fails to do."""


class InvalidInput(PrunefrontError, ValueError):
    """What a person or a caller gave cannot be used as it is."""


class UnsupportedModel(InvalidInput):
    """The model's architecture cannot be pruned, or not by this method."""


class BudgetUnsatisfiable(PrunefrontError):
    """No layout of the space costs as little, or as much, as the budget asks."""


def describe_problems(error: ValidationError) -> str:
    """Put all problems that pydantic found into one line.

    >>> from pydantic import BaseModel
    >>> class Point(BaseModel):
    ...     x: int
    ...     y: int
    >>> try:
    ...     Point(x="a")
    ... except ValidationError as error:
    ...     print(describe_problems(error))
    x: Input should be a valid integer, unable to parse string as an integer (got 'a'); y: Field required
    """
    problems: dict[object, str] = {}
    unions: dict[object, tuple[dict[str, None], str]] = {}  # of a field: the kinds it takes, what it got
    for problem in error.errors(include_url=False):
        place = problem["loc"]
        if len(place) == 2 and isinstance(place[1], str) and problem["type"].startswith(("greater_than", "less_than")):
            place = place[:1]  # behind it stands the branch of a union, whose bound refused the value
        kind = _kind(place[1]) if len(place) > 1 else ""
        if not kind:
            problems[place] = _described(".".join(str(part) for part in place), problem)
            continue
        kinds, received = unions.setdefault(place[0], ({}, _shown(problem["input"])))
        kinds[kind] = None
        problems[place[0]] = f"{place[0]} takes {' or '.join(kinds)} (got {received})"
    # Of a field's kinds one fits, and only its bound does not: the others need not be named.
    return "; ".join(text for place, text in problems.items() if (place,) not in problems)


def _described(place: str, problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    # A message of ours already names the value; pydantic's own never does.
    ours_or_missing = problem["type"] in ("value_error", "missing")
    received = "" if ours_or_missing else f" (got {_shown(problem['input'])})"
    return f"{place}: {message}{received}" if place else f"{message}{received}"


def _kind(branch: str | int) -> str:
    """Say in a person's words which kind of value a branch of a union takes; empty where it is no branch."""
    label = str(branch)
    if label.startswith("literal["):
        return f"one of {label.removeprefix('literal')}"
    if label.startswith("tuple["):
        return "a list like [3, 6, 9]"
    if "Range" in label:
        return "a range LOW:HIGH"
    label = label.removeprefix("constrained-")
    return {"int": "a whole number", "float": "a number", "bool": "true or false", "Choice": "choices A,B"}.get(
        label, ""
    )


def _shown(value: object) -> str:
    return str(value) if isinstance(value, BaseModel) else repr(value)
