"""Ask for a search: what is satisfiable is shown while one types."""

from __future__ import annotations

from typing import Any

import dash
from dash import Input, Output, State, dcc, html

from dashboard.desk import Desk
from dashboard.pages.parts import aria, card
from spaces import METHODS, InvalidInput
from spaces.errors import PrunefrontError

__all__ = ["layout", "register"]

_SAMPLERS = ("auto", "tpe", "random", "nsga2", "gp")
# A field of the form, and the name it has in a request.
_FIELDS = (
    "study", "model", "checkpoint", "num_classes", "image_size", "data", "labels", "split", "n_images", "n_confirm",
    "method", "preset", "settings", "budget", "cost", "budget_ms", "metric", "sampler", "n_trials", "seed", "n_workers",
    "race", "expect_top1",
)  # fmt: skip
_RANGE_FIELDS = ("model", "checkpoint", "num_classes", "image_size", "method", "preset", "settings", "budget")


def layout(desk: Desk) -> html.Div:
    """Make the page."""
    roots = desk.roots
    data_hint = "shapes, or a folder under " + (", ".join(map(str, roots.data)) or "--data-root, which is not set")
    model_hint = "a timm name or shapes_vit_small, with weights of its own or a checkpoint" + (
        f" under {', '.join(map(str, roots.model))}" if roots.model else " (--model-root is not set)"
    )
    what = card(
        _field("study", "Study", _text("study", placeholder="my-first-front"), "its name, new in this database"),
        _field("model", "Model", _text("model", "shapes_vit_small"), model_hint),
        _field("data", "Data", _text("data", "shapes"), data_hint),
        html.Details(
            [
                html.Summary("Weights, labels, sizes"),
                _field("checkpoint", "Checkpoint", _text("checkpoint"), ".safetensors or .pth, under the model root"),
                _field("num_classes", "Classes", _number("num_classes"), "where not the model's usual number"),
                _field("image_size", "Image size", _number("image_size"), "px, where not the model's usual one"),
                _field("labels", "Labels", _text("labels"), "CSV of file name and class, under the data root"),
                _field("split", "Split", _text("split"), "folder below the data root, such as val"),
            ]
        ),
        title="What",
    )
    within = card(
        _field("budget", "Budget", _text("budget", "50%:90%"), "3.0 GFLOPs, 65% of dense, or a range for a front"),
        html.Div(id="launch-range", className="range", role="status"),
        html.Details(
            [
                html.Summary("Latency"),
                _field("budget_ms", "Budget in ms", _text("budget_ms"),
                       "what one image may take on the runner's machine: 4.5, 65% of dense, or a range for a front"),
                _field("cost", "Front over", dcc.Dropdown(["gflops", "latency_ms"], id="launch-cost"),
                       "latency_ms: a front over ms; one worker then times what it measures, without races"),
            ]
        ),
        _field("method", "Methods", dcc.Dropdown(list(METHODS), ["zero_tprune"], multi=True, id="launch-method"), ""),
        _field("preset", "Space", dcc.Dropdown(["paper", "full"], "paper", clearable=False, id="launch-preset"),
               "preset of each method's settings"),
        _field("settings", "Set", dcc.Textarea(id="launch-settings", placeholder="s=10\nkeep_rate=0.5:1"),
               "NAME=VALUE, one a line, over the preset"),
        title="Within",
    )  # fmt: skip
    how = card(
        _field("n_trials", "Trials", _number("n_trials", 60), ""),
        _field("n_images", "Images", _number("n_images"), "to search on; 1024, or half of a smaller set"),
        _field("n_confirm", "Unseen images", _number("n_confirm", least=0), "to confirm on; as many"),
        _field("sampler", "Sampler", dcc.Dropdown(list(_SAMPLERS), "auto", clearable=False, id="launch-sampler"), ""),
        _field("metric", "Metric", dcc.Dropdown(["top1", "agreement"], "top1", clearable=False, id="launch-metric"),
               "agreement with the dense model needs no labels"),
        _field("seed", "Seed", _number("seed", 0, least=0), ""),
        _field("n_workers", "Workers", _number("n_workers"), "one for each core or GPU"),
        _field("expect_top1", "Dense top-1", _number("expect_top1", least=0, step="any"),
               "in %, below which the search does not start"),
        _field("race", "Race", dcc.Checklist([{"label": " stop candidates that have lost", "value": "race"}], ["race"],
                                             id="launch-race"), ""),
        title="How",
    )  # fmt: skip
    return html.Div(
        [
            dcc.Interval(id="launch-tick", interval=1500, disabled=True),
            html.Div([html.H1("Launch a search")], className="title"),
            html.P("It goes into the queue; the runner does it, also when this page is closed.", className="muted"),
            html.Div([what, within, how], className="thirds form"),
            html.Div(
                [
                    html.Button("Launch", id="launch-go", className="button primary large"),
                    html.Div(id="launch-said", role="alert"),
                ],
                className="actions",
            ),
        ]
    )


def register(app: dash.Dash, desk: Desk) -> None:
    """Say what is satisfiable, and launch."""

    @app.callback(
        Output("launch-range", "children"),
        Output("launch-tick", "disabled"),
        *(Input(f"launch-{name}", "value") for name in _RANGE_FIELDS),
        Input("launch-tick", "n_intervals"),
    )
    def show_range(*values: Any) -> Any:
        try:
            given = _given(dict(zip(_RANGE_FIELDS, values[:-1], strict=True)))
            if "model" not in given:
                return html.Span("Name a model to see what can be had.", className="muted"), True
            found = desk.budget_range(given)
        except PrunefrontError as error:
            return html.Span(str(error), className="bad"), True
        return _range(found), found["state"] != "reading"

    @app.callback(
        Output("launch-said", "children"),
        Output("url", "href"),
        Input("launch-go", "n_clicks"),
        *(State(f"launch-{name}", "value") for name in _FIELDS),
        prevent_initial_call=True,
    )
    def launch(clicks: int | None, *values: Any) -> Any:
        if not clicks:
            return dash.no_update, dash.no_update
        try:
            given = _given(dict(zip(_FIELDS, values, strict=True)))
            job = desk.launch(given)
        except PrunefrontError as error:
            return html.Span(str(error), className="bad"), dash.no_update
        return None, f"/jobs/{job.id}"


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Turn the form into a request; fields left empty are left out."""
    given = {name: value for name, value in values.items() if value not in (None, "", [])}
    given = {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
    if "race" in values:
        given["race"] = bool(values["race"])
    lines = given.pop("settings", "").splitlines()
    space = dict(_setting(line) for line in lines if line.strip())
    return given | {"space": space} if space else given


def _setting(line: str) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    if not equals:
        raise InvalidInput(f"a setting is NAME=VALUE, got {line.strip()!r}")
    return name.strip(), value.strip()


def _range(found: dict[str, Any]) -> Any:
    """Show what layouts can cost, and the budget among it."""
    if found["state"] == "reading":
        return html.Span("The runner is reading this model, which takes some seconds.", className="muted")
    if found["state"] == "failed":
        return html.Span(found["error"], className="bad")
    least, most, dense = found["least_gflops"], found["most_gflops"], found["dense_gflops"]
    words: list[Any] = [html.P(f"Layouts of this space cost {least:.4g} to {most:.4g} GFLOPs; dense {dense:.4g}.")]
    if "budget_gflops" in found:
        low, high = found["budget_gflops"]
        words.insert(0, _scale(least, most, dense, low, high))
        if found["is_satisfiable"]:
            asked = f"{high:.4g}" if low is None else f"{low:.4g} to {high:.4g}"
            words.append(html.P(f"The budget of {asked} GFLOPs is satisfiable.", className="good"))
            words += [html.P(line, className="muted") for line in found["left_out"]]
        else:
            words.append(html.P(found["why"], className="bad"))
    return words


def _scale(least: float, most: float, dense: float, low: float | None, high: float) -> html.Div:
    """Draw the budget on a scale from nothing to the dense model."""
    end = max(dense, high) * 1.02

    def place(start: float, stop: float) -> dict[str, str]:
        left = min(100.0, 100 * start / end)
        return {"left": f"{left:.1f}%", "width": f"{min(100 - left, max(0.6, 100 * (stop - start) / end)):.1f}%"}

    return html.Div(
        [
            html.Div(className="possible", style=place(least, most)),
            html.Div(className="asked", style=place(high if low is None else low, high)),
        ],
        className="scale",
        **aria(hidden="true"),
    )


def _field(name: str, label: str, control: Any, hint: str) -> html.Div:
    return html.Div(
        [html.Label(label, htmlFor=f"launch-{name}"), html.Div([control, html.Small(hint) if hint else None])],
        className="field",
    )


def _text(name: str, value: str = "", *, placeholder: str = "") -> dcc.Input:
    # Told after a pause, not with every key: a model's name is looked up.
    return dcc.Input(id=f"launch-{name}", value=value, placeholder=placeholder, debounce=0.6, maxLength=500)


def _number(name: str, value: int | None = None, *, least: int = 1, step: int | str = 1) -> dcc.Input:
    return dcc.Input(id=f"launch-{name}", type="number", value=value, min=least, step=step, debounce=0.6)
