from __future__ import annotations

from dataclasses import replace

from objectives.machine import Machine


def test_a_machine_is_another_if_anything_but_its_name_differs():
    one = Machine("CPU", 2, "torch 2, eager, float32", "a")
    assert one.is_like(replace(one, host="b"))
    for change in ({"processor": "other"}, {"threads": 4}, {"runtime": "torch 3, eager, float32"}):
        assert not one.is_like(replace(one, **change))
