"""Pictures of one layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dashboard.theme import Theme
from spaces import Architecture, dense_cost, parse_layout
from storage import TrialRecord

__all__ = ["Staircase", "staircase_figure", "staircase_of"]


@dataclass(frozen=True)
class Staircase:
    """The tokens that enter each block, prefix included.

    Attributes:
        pruned: of the layout.
        dense: of the model with nothing pruned.
    """

    pruned: tuple[float, ...]
    dense: tuple[int, ...]


def staircase_of(trial: TrialRecord, architecture: Architecture) -> Staircase:
    """Count a layout's tokens block by block; where the images decide how many, their mean once it was measured."""
    tokens: tuple[float, ...] = parse_layout(trial.config).cost(architecture).tokens_per_block
    if trial.measurement is not None and trial.measurement.measured_gflops is not None:
        tokens = trial.measurement.tokens_per_block
    return Staircase(tuple(tokens), tuple(dense_cost(architecture).tokens_per_block))


def staircase_figure(data: Staircase, theme: Theme, *, is_small: bool = False) -> go.Figure:
    """Draw tokens as steps down, before the dense model's."""
    blocks = list(range(1, len(data.pruned) + 1))
    margin = {"l": 44, "r": 8, "t": 8, "b": 40} if is_small else {"l": 56, "r": 12, "t": 12, "b": 48}
    figure = go.Figure(layout=theme.layout(barmode="overlay", bargap=0.08, margin=margin, showlegend=not is_small))
    figure.add_trace(
        go.Bar(
            name="dense",
            x=blocks,
            y=data.dense,
            marker=_flat(theme.grid),
            hovertemplate="dense %{y}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Bar(
            name="this layout",
            x=blocks,
            y=data.pruned,
            marker=_flat(theme.front),
            text=None if is_small else [f"{count:.4g}" for count in data.pruned],
            textposition="inside",
            insidetextanchor="end",
            textfont={"color": theme.ground},
            hovertemplate="block %{x}: %{y} tokens<extra></extra>",
        )
    )
    step = {"dtick": 1 if len(blocks) <= 16 else 2}
    figure.update_xaxes(title={"text": "block"}, **step, showgrid=False)
    figure.update_yaxes(title={"text": "tokens" if is_small else "tokens that enter"}, rangemode="tozero")
    return figure


def _flat(colour: str) -> dict[str, Any]:
    return {"color": colour, "line": {"width": 0}}
