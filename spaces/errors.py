"""The errors of prunefront: one base, and the three that every package raises.

A message is one line: the rule, the value received and, where there is one, the remedy.
"""

from __future__ import annotations

from pydantic import ValidationError

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
    problems = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        # A message of ours already names the value; pydantic's own never does.
        ours_or_missing = problem["type"] in ("value_error", "missing")
        received = "" if ours_or_missing else f" (got {problem['input']!r})"
        problems.append(f"{place}: {message}{received}" if place else f"{message}{received}")
    return "; ".join(problems)
