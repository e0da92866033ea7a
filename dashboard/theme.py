"""Colours of figures on light and dark pages; the pages' own stand in assets/style.css."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DARK", "LIGHT", "Theme", "theme_of"]


@dataclass(frozen=True)
class Theme:
    """One set of colours, each readable on its ground.

    Attributes:
        ink: of text.
        muted: of axes and of what matters less.
        grid: of lines behind the points.
        ground: behind everything.
        points: of measured trials that are not on a front.
        front: of the front.
        confirmed: of what was measured on unseen images.
        dense: of the dense model.
        budget: of the budget's lines.
        chosen: of the ring around the chosen trial.
        scale: of numbers, from low to high.
    """

    ink: str
    muted: str
    grid: str
    ground: str
    points: str
    front: str
    confirmed: str
    dense: str
    budget: str
    chosen: str
    scale: str

    def layout(self, **more: Any) -> dict[str, Any]:
        """Give what all figures have in common."""
        axis = {
            "gridcolor": self.grid,
            "linecolor": self.grid,
            "zeroline": False,
            "tickfont": {"color": self.muted, "size": 12},
            "title": {"font": {"size": 13, "color": self.muted}, "standoff": 10},
            "automargin": True,
        }
        base: dict[str, Any] = {
            "template": None,
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": self.ink, "family": "system-ui, sans-serif", "size": 13},
            "hoverlabel": {"bgcolor": self.ground, "bordercolor": self.grid, "font": {"color": self.ink}},
            "hovermode": "closest",
            "margin": {"l": 60, "r": 16, "t": 12, "b": 48},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "font": {"color": self.muted}},
            "xaxis": axis,
            "yaxis": axis,
        }
        for name, value in more.items():
            known = base.get(name)
            base[name] = {**known, **value} if isinstance(known, Mapping) and isinstance(value, Mapping) else value
        return base


LIGHT = Theme(
    ink="#1b2430",
    muted="#566273",
    grid="#e4e8ef",
    ground="#ffffff",
    points="#7d8b9d",
    front="#0b6bcb",
    confirmed="#c2410c",
    dense="#1b2430",
    budget="#a8437f",
    chosen="#1b2430",
    scale="Viridis",
)
DARK = Theme(
    ink="#e8edf4",
    muted="#a3b0c2",
    grid="#2a3544",
    ground="#18202b",
    points="#93a3b8",
    front="#6cb6ff",
    confirmed="#ff9d5c",
    dense="#f2f5f9",
    budget="#e58fbf",
    chosen="#ffffff",
    scale="Cividis",
)


def theme_of(name: str | None) -> Theme:
    """Give the theme that a page says it has.

    >>> theme_of("dark") is DARK, theme_of(None) is LIGHT
    (True, True)
    """
    return DARK if name == "dark" else LIGHT
