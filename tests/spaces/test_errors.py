from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from spaces.errors import describe_problems

Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Some settings of the kinds there are."""

    size: Positive | Literal["auto"] = "auto"
    rates: tuple[Annotated[float, Field(le=1)], ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "size: Input should be greater than or equal to 1 (got 0)"),
        ({"size": "x"}, "size takes a whole number or one of ['auto'] (got 'x')"),
        ({"rates": [0.5, 2]}, "rates.1: Input should be less than or equal to 1 (got 2)"),
        (
            {"size": 0, "rates": [3]},
            "size: Input should be greater than or equal to 1 (got 0); "
            "rates.0: Input should be less than or equal to 1 (got 3)",
        ),
    ],
)
def test_a_problem_names_its_setting_what_it_takes_and_what_it_got(values, message):
    with pytest.raises(ValidationError) as raised:
        Settings(**values)
    assert describe_problems(raised.value) == message
