"""The dashboard as a person uses it."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
import torch
from PIL import Image

import pruning
from benchmarks.many_trials import fill
from pruning.apply import prune, pruned
from pruning.models import load_model
from storage import JobKind, JobState, StudyState, TrialState
from tests.browser.conftest import serve
from tests.storage.records import new_study

N_TRIALS = 30

PLOT = "document.querySelector('#study-front .js-plotly-plot')"
# Where a trial's point is on the screen, whichever trace draws it.
POINT = """number => {
  const plot = document.querySelector('#study-front .js-plotly-plot'), layout = plot._fullLayout;
  const box = plot.getBoundingClientRect();
  for (const trace of plot._fullData) {
    const index = Array.from(trace.customdata || []).indexOf(number);
    if (index < 0) continue;
    const [x, y] = [trace._input.x, trace._input.y].map(a => a.bdata ? null : a[index]);
    if (x === null) continue;
    const {xaxis, yaxis} = layout;
    return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
  }
}"""
N_POINTS = """() => {
  const plot = document.querySelector('#study-front .js-plotly-plot');
  if (!plot || !plot._fullData) return 0;
  return plot._fullData.filter(t => t.name === 'measured' || t.name.startsWith('stopped early'))
    .reduce((n, t) => n + (t.customdata ? t.customdata.length : 0), 0);
}"""
RANGE = f"() => {PLOT}._fullLayout.xaxis.range"


def wait_until(claim, seconds=180, every=0.25):
    deadline = time.monotonic() + seconds
    while not (found := claim()):
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(every)
    return found


def test_a_search_is_launched_watched_looked_at_and_its_layout_prunes(served, open_page, tmp_path):
    page = open_page(accept_downloads=True)
    page.goto(served.address)
    page.get_by_text("There is no study yet.").wait_for()
    page.get_by_role("link", name="Launch", exact=True).click()
    for name, value in {
        "study": "first", "n_trials": N_TRIALS, "n_images": 64, "n_confirm": 32, "n_workers": 1,
    }.items():  # fmt: skip
        page.locator(f"input#launch-{name}, #launch-{name} input").first.fill(str(value))
    page.get_by_text("GFLOPs is satisfiable").wait_for()
    page.locator("input#launch-budget").fill("1%")
    page.get_by_text("is unsatisfiable: layouts of this space cost").wait_for()
    page.locator("input#launch-budget").fill("50%:90%")
    page.get_by_text("GFLOPs is satisfiable").wait_for()
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/jobs/*")
    store = served.store()
    wait_until(store.studies)

    page.get_by_role("link", name="Open its study").click()
    n_seen = wait_until(lambda: page.evaluate(N_POINTS))
    page.evaluate("window.same = true")
    page.evaluate(
        "Plotly.relayout(document.querySelector('#study-front .js-plotly-plot'), {'xaxis.range': [0.05, 0.2]})"
    )
    wait_until(lambda: page.evaluate(N_POINTS) > n_seen)
    assert page.evaluate("window.same"), "new points came without a reload"
    assert page.evaluate(RANGE) == [0.05, 0.2], "and the zoom stayed"
    page.locator("#study-state .badge.finished").wait_for(timeout=180_000)
    [study] = store.studies()
    assert study.state is StudyState.FINISHED
    measured = [trial for trial in store.trials(study.id) if trial.measurement and trial.duplicate_of is None]
    wait_until(lambda: page.evaluate(N_POINTS) == len(measured))

    front = page.request.get(f"{served.url}/api/studies/first/front").json()["front"]
    cheapest = front[0]
    page.mouse.click(*page.evaluate(POINT, cheapest["trial"]))
    page.get_by_role("heading", name=f"Trial {cheapest['trial']}", exact=True).wait_for()
    bars = "() => document.querySelector('#trial-card-tokens .js-plotly-plot')._fullData[1].y"
    tokens = cheapest["measured"]["tokens_per_block"]
    wait_until(lambda: list(page.evaluate(bars)) == tokens)

    with page.expect_download() as download:
        page.locator("#export-json").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == f"first-trial-{cheapest['trial']}.json"
    loaded = load_model("shapes_vit_small")
    with pruned(loaded.model, path) as at_work:
        logits = loaded.model(torch.zeros(2, 3, 96, 96))
    assert list(at_work.tokens_per_block) == tokens
    assert torch.equal(prune(loaded.model, path)(torch.zeros(2, 3, 96, 96)), logits)

    page.get_by_role("link", name="Open", exact=True).click()
    page.get_by_text("points on the same 64 search images").wait_for()
    _the_trial_is_written_with_its_model(page, store, logits)
    page.get_by_role("link", name="Look at its tokens on images").click()
    page.get_by_role("button", name="Make pictures").click()
    page.locator("img.tokens").nth(3).wait_for(timeout=180_000)
    _the_masked_images_are_dark_where_tokens_were_dropped(page, served, store)


def _the_trial_is_written_with_its_model(page, store, logits):
    page.get_by_role("button", name="Bundle", exact=True).click()
    page.get_by_text("(bundle) is done").wait_for(timeout=180_000)
    [job], _ = store.jobs.page(kinds=[JobKind.BUNDLE])
    assert job.result["folder"] in page.locator("#trial-bundled").inner_text()
    model, transform = pruning.load(job.result["folder"])
    image = Image.effect_noise((120, 100), 80).convert("RGB")
    assert transform(image).shape == (3, 96, 96)
    assert torch.equal(model(torch.zeros(2, 3, 96, 96)), logits)


def _the_masked_images_are_dark_where_tokens_were_dropped(page, served, store):
    [job], _ = store.jobs.page(kinds=[JobKind.PICTURES])
    layers = job.result["images"][0]["layers"]
    whole = _picture(page, served, job.id, 0, 0)
    for number, layer in enumerate(layers, start=1):
        drawn = _picture(page, served, job.id, 0, number)
        dropped = np.kron(np.array(layer["owners"]).reshape(job.result["grid"]) < 0, np.ones((8, 8))).astype(bool)
        assert 0 < dropped.mean() < 1
        assert np.array_equal(drawn[~dropped], whole[~dropped])
        assert (drawn[dropped] <= 0.15 * whole[dropped] + 1).all()
    shown = page.locator("img.tokens").evaluate_all("all => all.map(i => i.complete && i.naturalWidth)")
    assert set(shown) == {96}


def _picture(page, served, job_id, image, layer):
    answer = page.request.get(f"{served.url}/api/jobs/{job_id}/pictures/{image}/{layer}.png")
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"))


def test_a_search_is_cancelled_and_gone_on_with(served, open_page):
    page = open_page()
    page.goto(served.address)
    launch = {"study": "long", "model": "shapes_vit_small", "data": "shapes", "budget": "65%", "n_trials": 5000,
              "n_images": 64, "n_confirm": 0, "n_workers": 1}  # fmt: skip
    answer = page.request.post(f"{served.url}/api/studies", data=launch)
    assert answer.status == 201
    store = served.store()
    wait_until(lambda: (store.jobs.get(answer.json()["id"]).progress or {}).get("n_finished", 0) >= 1)
    page.goto(f"{served.url}/study/long")
    page.get_by_role("button", name="Cancel").click()
    page.locator("#study-state .badge.interrupted").wait_for()
    n_before = sum(trial.state.is_finished for trial in store.trials(store.study("long").id))
    page.get_by_role("button", name="Resume").click()
    page.locator("#study-state .badge.running").wait_for()
    wait_until(lambda: sum(t.state.is_finished for t in store.trials(store.study("long").id)) > n_before)
    page.get_by_role("button", name="Cancel").click()
    page.locator("#study-state .badge.interrupted").wait_for()
    wait_until(lambda: {job.state for job in store.jobs.page(study="long")[0]} == {JobState.CANCELLED})
    assert store.jobs.page(study="long")[1] == 2


# The lowest contrast between a text and what is behind it, over all that is seen.
CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = text => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = element => { const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]); };
  const light = c => { const l = c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * l[0] + .7152 * l[1] + .0722 * l[2]; };
  let worst = [99, ''];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest('svg, script, style, .unseen, .skip')) continue;
    const ground = behind(element), ink = over(rgba(getComputedStyle(element).color), ground);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < worst[0]) worst = [ratio, text];
  }
  return worst;
}"""


# A badge of every state on every ground that there is.
BADGES = """states => { for (const ground of ['--bg', '--card', '--soft']) {
  const place = document.body.appendChild(document.createElement('p'));
  place.style.background = `var(${ground})`;
  for (const state of states) {
    const badge = place.appendChild(document.createElement('span'));
    [badge.className, badge.textContent] = [`badge ${state}`, `${state} on ${ground}`];
  }
} }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_readable_in_both_themes_and_fits_1280_pixels(served, open_page, scheme):
    page = open_page(color_scheme=scheme)
    page.goto(served.address)
    with served.store() as store:
        name = f"seen-{scheme}"
        fill(served.db, name, 60, load_model("shapes_vit_small").architecture)
        assert name in [study.name for study in store.studies()]
    for path in ("/", f"/study/{name}", f"/study/{name}/trial/3", f"/study/{name}/trial/3/images", "/launch", "/jobs"):
        page.goto(f"{served.url}{path}")
        page.locator("h1").wait_for()
        page.wait_for_load_state("networkidle") if path == "/launch" else page.wait_for_timeout(1500)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        ratio, text = page.evaluate(CONTRAST)
        assert ratio >= 4.5, f"{path}: {text!r} has a contrast of {ratio:.2f}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page.evaluate(BADGES, [*JobState, *StudyState, *TrialState])
    ratio, text = page.evaluate(CONTRAST)
    assert ratio >= 4.5, f"{text!r} has a contrast of {ratio:.2f}"
    page.get_by_role("button", name="Light or dark").click()
    wait_until(lambda: page.evaluate("document.documentElement.dataset.theme") != scheme)


def test_the_slider_is_moved_by_keys_and_finds_cheaper_layouts(served, open_page):
    fill(served.db, "keys", 400, load_model("shapes_vit_small").architecture)
    page = open_page()
    page.goto(served.address)
    page.goto(f"{served.url}/study/keys")
    title = page.locator("#trial-card-title")
    title.wait_for()
    dearest = title.inner_text()
    page.get_by_role("slider").first.focus()
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    wait_until(lambda: title.inner_text() != dearest)
    front = page.request.get(f"{served.url}/api/studies/keys/front").json()["front"]

    def is_best_under_the_limit() -> bool:
        shown = float(page.locator("#study-limit").inner_text().split()[0])
        allowed = [[t for t in front if t["gflops"] <= shown + rounded] for rounded in (-5e-5, 5e-5)]
        return title.inner_text() in {f"Trial {max(each, key=lambda t: t['gflops'])['trial']}" for each in allowed}

    wait_until(is_best_under_the_limit)


def test_a_script_in_a_studys_name_is_text(served, open_page):
    name = "<img src=x onerror=alert(1)><script>alert(2)<\\script>"
    with served.store() as store:
        store.create_study(new_study(name))
    page = open_page()
    page.goto(served.address)
    page.get_by_role("link", name=name).click()
    page.get_by_role("heading", name=name).wait_for()
    page.wait_for_timeout(1500)
    assert page.locator("img[src=x]").count() == 0


def test_many_points_are_drawn_with_webgl_under_the_policy_and_can_be_clicked(served, open_page):
    fill(served.db, "many", 6000, load_model("shapes_vit_small").architecture)
    page = open_page()
    page.goto(served.address)
    page.goto(f"{served.url}/study/many")
    wait_until(lambda: page.evaluate(N_POINTS) == 6000)
    assert page.get_by_text("WebGL is not supported").count() == 0
    inked = """() => { const plot = document.querySelector('#study-front .js-plotly-plot');
      return Plotly.toImage(plot, {format: 'png', width: 700, height: 500}).then(url => new Promise(done => {
        const image = new Image(); image.onload = () => { const c = document.createElement('canvas');
          c.width = 700; c.height = 500; const g = c.getContext('2d'); g.drawImage(image, 0, 0);
          const d = g.getImageData(100, 60, 560, 360).data; let n = 0;
          for (let i = 3; i < d.length; i += 4) n += d[i] > 40; done(n); }; image.src = url; })); }"""
    assert page.evaluate(inked) > 20_000, "the points themselves are seen"
    for trace in (0, 1):
        _a_point_is_pointed_at_and_clicked(page, served, trace)


# Where in the middle of the picture a trace has a point.
MIDDLE = """trace => {
  const plot = document.querySelector('#study-front .js-plotly-plot'), {xaxis, yaxis} = plot._fullLayout;
  const {x, y} = plot._fullData[trace], box = plot.getBoundingClientRect();
  const at = i => [xaxis._offset + xaxis.d2p(x[i]), yaxis._offset + yaxis.d2p(y[i])];
  const far = i => Math.hypot(at(i)[0] - box.width / 2, at(i)[1] - box.height / 2);
  const nearest = Array.from(x.keys()).reduce((best, i) => far(i) < far(best) ? i : best, 0);
  return [box.left + at(nearest)[0], box.top + at(nearest)[1]];
}"""
POINTED_AT = f"() => {{ const [point] = {PLOT}._hoverdata || []; return point && [point.x, point.y]; }}"


def _a_point_is_pointed_at_and_clicked(page, served, trace):
    place = page.evaluate(MIDDLE, trace)
    page.evaluate(f"() => {{ {PLOT}._hoverdata = undefined; }}")  # what was pointed at before
    page.mouse.move(*place)
    cost, merit = wait_until(lambda: page.evaluate(POINTED_AT))
    page.mouse.click(*place)
    page.locator("#study-trial").get_by_text("clicked").wait_for()

    def is_shown() -> bool:
        number = page.locator("#trial-card-title").inner_text().removeprefix("Trial ")
        trial = page.request.get(f"{served.url}/api/studies/many/trials/{number}").json()
        return (trial["gflops"], trial["measured"]["top1_pct"]) == (pytest.approx(cost), pytest.approx(merit))

    wait_until(is_shown)


def test_the_fronts_table_leads_to_its_trials_without_loading_the_page_anew(served, open_page):
    page = open_page()
    page.goto(served.address)
    page.goto(f"{served.url}/study/keys")
    front = page.request.get(f"{served.url}/api/studies/keys/front").json()["front"]
    rows = page.locator("#study-front-table tbody tr")
    wait_until(lambda: rows.count() == len(front))
    assert [text.split()[1] for text in rows.locator("a").all_inner_texts()] == [str(t["trial"]) for t in front]
    page.evaluate("window.same = true")
    rows.locator("a").first.click()
    page.wait_for_url(f"**/study/keys/trial/{front[0]['trial']}")
    page.get_by_role("heading", name=f"Trial {front[0]['trial']}").first.wait_for()
    assert page.evaluate("window.same")
    page.go_back()
    wait_until(lambda: rows.count() == len(front))


def test_without_webgl_a_sample_is_drawn_and_says_so(served, open_page):
    page = open_page("--disable-3d-apis")
    page.goto(served.address)
    page.goto(f"{served.url}/study/many")
    page.get_by_text("a sample of 5,000 of 6,000 trials").wait_for()
    assert page.get_by_text("WebGL is not supported").count() == 0
    wait_until(lambda: page.locator("#study-front .scatterlayer .points path").count() >= 5000)
    page.get_by_role("radio", name="Parallel coordinates").focus()
    page.keyboard.press("Space")
    page.get_by_text("measured trials, the front among them").wait_for()
    assert page.get_by_text("WebGL is not supported").count() == 0


def test_what_is_refused_of_a_trial_stays_to_be_read(open_page, tmp_path):
    alone = serve(tmp_path, "--no-runner", "--max-queued", "1", "--output-root", str(tmp_path))
    fill(alone.db, "full", 20, load_model("shapes_vit_small").architecture)
    page = open_page()
    page.goto(alone.address)
    page.goto(f"{alone.url}/study/full/trial/3")
    assert page.request.post(f"{alone.url}/api/studies/full/trials/4/pictures", data={}).status == 201
    page.get_by_role("button", name="Bundle", exact=True).click()
    refused = page.locator("#trial-refused").get_by_text("jobs wait")
    refused.wait_for()
    with page.expect_response("**/_dash-update-component*"):  # the page looks again
        pass
    assert refused.is_visible()
    page.close()
    alone.process.terminate()
    assert alone.process.wait(30) == 0


def test_the_page_says_when_its_server_is_away(open_page, tmp_path):
    alone = serve(tmp_path, "--no-runner")
    page = open_page()
    page.goto(alone.address)
    page.get_by_text("There is no study yet.").wait_for()
    alone.process.terminate()
    assert alone.process.wait(30) == 0
    page.get_by_text("The dashboard's server is away").wait_for()
    page.problems.clear()  # the browser tells of each question that nobody answered
    page.close()
    page.problems.clear()
