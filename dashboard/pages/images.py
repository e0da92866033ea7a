"""What a trial does to tokens, on real images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash
from dash import Input, Output, State, dcc, html

from dashboard.desk import Desk
from dashboard.pages.parts import aria, card, empty, job_line, study_path, trial_path
from dashboard.scene_pictures import SceneImage, scenes_of
from dashboard.token_pictures import TokenImage, pictures_of
from spaces.errors import PrunefrontError
from storage import JobKind, JobRecord, JobState

__all__ = ["layout", "register"]

_SHOWN = {
    False: "behind each layer that prunes. Dark patches were dropped; patches of one colour share a token.",
    True: "what they show and what is found there, a colour for each class; and where each token was finished: the "
    "darker, the earlier.",
}


def layout(desk: Desk, name: str, number: int) -> html.Div:
    """Make the page. Raises NotThere if there is no such study or trial."""
    study = desk.study(name)
    trial, is_of_scenes = study.trial(number), study.record.metric == "miou"
    return html.Div(
        [
            dcc.Store(id="images-place", data={"study": name, "number": number}),
            dcc.Store(id="images-shown"),
            dcc.Interval(id="images-tick", interval=1000),
            html.Nav(
                [
                    dcc.Link(name, href=study_path(name)),
                    " / ",
                    dcc.Link(f"trial {number}", href=trial_path(name, number)),
                    " / images",
                ],
                **aria(label="Where"),
            ),
            html.Div([html.H1(f"Tokens of trial {number}")], className="title"),
            html.P(f"{trial.method}: the first of the search images, as the model sees them, {_SHOWN[is_of_scenes]}",
                   className="muted"),
            html.Div(
                [
                    html.Label("Images", htmlFor="images-n"),
                    dcc.Input(id="images-n", type="number", min=1, max=32, step=1, value=8),
                    html.Button("Make pictures", id="images-make", className="button primary"),
                ],
                className="controls",
            ),
            html.P(id="images-said", role="status"),
            html.Div(id="images-gallery"),
        ]
    )  # fmt: skip


def register(app: dash.Dash, desk: Desk) -> None:
    """Ask for pictures, and show them when they are there."""

    @app.callback(
        Output("images-said", "children", allow_duplicate=True),
        Input("images-make", "n_clicks"),
        State("images-n", "value"),
        State("images-place", "data"),
        prevent_initial_call=True,
    )
    def make(clicks: int | None, n_images: int | None, place: dict[str, Any]) -> Any:
        if not clicks:
            return dash.no_update
        try:
            values = {} if n_images is None else {"n_images": n_images}
            return job_line(desk.ask_for_pictures(place["study"], place["number"], values))
        except PrunefrontError as error:
            return html.Span(str(error), className="bad")

    @app.callback(
        Output("images-gallery", "children"),
        Output("images-said", "children"),
        Output("images-shown", "data"),
        Input("images-tick", "n_intervals"),
        State("images-place", "data"),
        State("images-shown", "data"),
    )
    def show(_: int | None, place: dict[str, Any], shown: list[Any] | None) -> Any:
        job = desk.job_of_trial(place["study"], place["number"], JobKind.PICTURES)
        now = [] if job is None else [job.id, job.state.value]
        if now == shown:
            return dash.no_update, dash.no_update, dash.no_update
        return _gallery(job), None if job is None else job_line(job), now


def _gallery(job: JobRecord | None) -> Any:
    if job is None:
        return card(
            empty("No pictures of this trial yet.", "The runner makes them: it needs the model and the images.")
        )
    if job.state is JobState.FAILED:
        return card(empty("The pictures could not be made.", job.error or ""))
    if job.result is None:
        return card(html.Div(className="skeleton", **aria(hidden="true")))
    if "after" in job.result:
        scenes, after, names = scenes_of(job.result)
        return html.Div([_scene_strip(job.id, index, scene, after, names) for index, scene in enumerate(scenes)])
    images, _, classes = pictures_of(job.result)
    return html.Div([_strip(job.id, index, image, classes) for index, image in enumerate(images)])


def _strip(job_id: int, index: int, image: TokenImage, classes: Mapping[str, str]) -> html.Section:
    """Show one image: whole, then behind each layer."""
    pictures = [_picture(job_id, index, 0, "all tokens", f"{image.name} as the model sees it")]
    for layer, (block, owners) in enumerate(image.layers, start=1):
        kept = len({owner for owner in owners if owner >= 0})
        dropped = sum(owner < 0 for owner in owners)
        said = f"{kept} of {len(owners)} tokens" + (f", {dropped} dropped" if dropped else "")
        alt = f"{image.name} behind block {block}: {said}"
        pictures.append(_picture(job_id, index, layer, f"block {block}: {said}", alt))
    return card(html.P(_verdict(image, classes), className="lead"), html.Div(pictures, className="strip"))


def _scene_strip(
    job_id: int, index: int, scene: SceneImage, after: Sequence[int], names: Mapping[str, str]
) -> html.Section:
    """Show one image of a segmenter: whole, what it shows, what is found there, and where its tokens left."""
    right = {way: "" if share is None else f": {share:.1f} % right" for way, share in scene.right_pct.items()}
    left = ", ".join(f"{scene.n_left(stage)} after block {block}" for stage, block in enumerate(after))
    left = f"of {len(scene.stage)} tokens left {left}" if after else "no token left early"
    said = ["all tokens", "truth", f"dense{right['dense']}", f"pruned{right['pruned']}", left]
    pictures = [
        _picture(job_id, index, layer, caption, f"{scene.name}: {caption}") for layer, caption in enumerate(said)
    ]
    shown = ", ".join(names.get(str(each), f"class {each}") for each in scene.classes)
    lead = html.P([html.Span(scene.name, className="muted"), f" {shown}"], className="lead")
    return card(lead, html.Div(pictures, className="strip"))


def _picture(job_id: int, index: int, layer: int, caption: str, alt: str) -> html.Figure:
    source = f"/api/jobs/{job_id}/pictures/{index}/{layer}.png"
    return html.Figure([html.Img(src=source, alt=alt, className="tokens"), html.Figcaption(caption)])


def _verdict(image: TokenImage, classes: Mapping[str, str]) -> list[Any]:
    def named(index: int) -> str:
        return classes.get(str(index), f"class {index}")

    is_right = image.truth is None or image.chosen == image.truth
    words: list[Any] = [html.Span(image.name, className="muted"), " "]
    words.append(html.Span(f"pruned: {named(image.chosen)}", className="good" if is_right else "bad"))
    words.append(f" · dense: {named(image.dense)}")
    return words if image.truth is None else [*words, f" · truth: {named(image.truth)}"]
