from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from flask import Flask
from werkzeug.test import Client

from dashboard.api import make_api
from dashboard.app import page_of
from dashboard.desk import Desk
from dashboard.pages.study_tabs import TABS, tab_content
from dashboard.roots import Roots
from dashboard.security import Access
from dashboard.server import make_wsgi
from dashboard.theme import LIGHT
from pruning.models import load_model
from search.config import SAMPLERS
from spaces import InvalidInput, ZeroTPrune, parse_layout
from storage import MeasurementKind, Store
from storage.export import table_of, trial_as_json
from tests.storage.records import measurement, new_study, new_trial, timed, timing_spec

DOCUMENT = Path("docs/api.md")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve a study of twelve trials."""
    with Store(f"sqlite:///{tmp_path_factory.mktemp('api')}/test.db", create=True) as store:
        study = store.create_study(new_study())
        store.add_measurement(study.id, None, MeasurementKind.SEARCH, measurement(38))
        for number in range(12):
            store.add_trial(study.id, new_trial(number, 2.0 + 0.05 * number))
            store.finish_trial(study.id, number, measurement(15 + (7 * number) % 12), "w")
        desk = Desk(store)
        yield store, desk, Client(make_wsgi(desk, Access.of("127.0.0.1", None)))


@pytest.fixture
def client(served):
    return served[2]


def get(client, path, status=200):
    answer = client.get(f"/api{path}", headers={"Host": "127.0.0.1"})
    assert answer.status_code == status, answer.data
    return answer.get_json() if answer.is_json else answer.get_data(as_text=True)


def post(client, path, values, status):
    answer = client.post(f"/api{path}", json=values, headers={"Host": "127.0.0.1"})
    assert answer.status_code == status, answer.data
    return answer.get_json()


def test_the_document_describes_the_routes_that_there_are_and_no_others(served):
    app = Flask("prunefront")
    app.register_blueprint(make_api(served[1]))
    rules = [rule for rule in app.url_map.iter_rules() if not rule.rule.endswith("<path:rest>")]
    methods = [(rule, method) for rule in rules if rule.rule.startswith("/api") for method in rule.methods]
    place = re.compile(r"<(?:[a-z]+:)?([a-z_]+)>")
    there = {f"{method} " + place.sub(r"{\1}", rule.rule) for rule, method in methods if method in ("GET", "POST")}
    described = set(re.findall(r"^### `((?:GET|POST) [^`]+)`$", DOCUMENT.read_text(), re.MULTILINE))
    assert described == there


def test_pages_of_trials_hold_what_is_remembered(served, client):
    store = served[0]
    trials = [json.loads(json.dumps(trial_as_json(trial))) for trial in store.trials(1)]
    assert get(client, "/studies/first/trials?limit=5&offset=5") == {"items": trials[5:10], "total": 12, "offset": 5}
    assert get(client, "/studies/first/trials?order=newest&limit=2")["items"] == trials[:-3:-1]
    assert get(client, "/studies/first/trials?state=failed")["total"] == 0
    one = get(client, "/studies/first/trials/3")
    assert one["params"] == new_trial(3).params
    get(client, "/studies/first/trials/12", 404)
    get(client, "/studies/first/trials?state=none", 400)


def test_a_study_tells_its_best_its_front_and_its_history(served, client):
    study = get(client, "/studies/first")
    front = get(client, "/studies/first/front")["front"]
    assert study["best"] == front[-1]["trial"]
    assert study["trials"] == {"complete": 12}
    assert study["settings"] == {"study": "first"}
    costs = [trial["gflops"] for trial in front]
    merits = [trial["measured"]["top1_pct"] for trial in front]
    assert (costs, merits) == (sorted(costs), sorted(merits))
    history = get(client, "/studies/first/history")
    assert history["milestones"][-1]["best"] == merits[-1]
    assert get(client, "/studies")["items"][0]["name"] == "first"


def test_a_layout_is_exported_as_the_command_line_does(served, client):
    for suffix in ("json", "yaml"):
        text = get(client, f"/studies/first/trials/4/layout.{suffix}")
        document = text if isinstance(text, dict) else yaml.safe_load(text)
        assert parse_layout(document) == ZeroTPrune.parse(served[0].trial(1, 4).config)


def test_a_bundle_is_asked_for_and_its_folder_is_named_by_the_server(tmp_path):
    with Store(f"sqlite:///{tmp_path}/test.db", create=True) as store:
        study = store.create_study(new_study("..b c"))
        store.add_trial(study.id, new_trial(0))
        store.finish_trial(study.id, 0, measurement(30), "worker")
        place = "/studies/..b c/trials/0/bundle"
        without = Client(make_wsgi(Desk(store), Access.of("127.0.0.1", None)))
        assert "start it with --output-root" in post(without, place, {}, 400)["error"]
        client = Client(make_wsgi(Desk(store, Roots(output=tmp_path)), Access.of("127.0.0.1", None)))
        assert "nobody asked for a bundle of trial 0" in get(client, place, 404)["error"]
        for values in ({"formats": ["tflite"]}, {"folder": "/tmp"}, {"weights": "some"}):
            post(client, place, values, 400)
        asked = post(client, place, {"formats": ["onnx"]}, 201)
        assert asked["request"] == {
            "trial": 0, "folder": f"{tmp_path}/..b%20c-trial-0", "weights": True, "formats": ["onnx"],
        }  # fmt: skip
        assert post(client, place, {"formats": ["onnx"]}, 201)["id"] == asked["id"], "it is being written already"
        assert get(client, place)["id"] == asked["id"]
    assert Roots(output=tmp_path).output_path("../a/b") == f"{tmp_path}/..%2Fa%2Fb"


@pytest.mark.parametrize("name", ["a/b", "a/trials", "50%", "a%2Fb", "..", "sp ace/%25/ä", "x?y#z"])
def test_a_study_is_found_whatever_its_name(tmp_path, name):
    with Store(f"sqlite:///{tmp_path}/test.db", create=True) as store:
        study = store.create_study(new_study(name))
        store.create_study(new_study("a"))
        store.add_trial(study.id, new_trial(0))
        store.finish_trial(study.id, 0, measurement(30), "worker")
        client = Client(make_wsgi(Desk(store), Access.of("127.0.0.1", None)))
        place = f"/studies/{quote(name, safe='')}"
        assert get(client, place)["name"] == name
        assert get(client, f"{place}/trials?limit=1")["total"] == 1
        assert get(client, f"{place}/front")["study"] == name
        assert get(client, f"{place}/trials/0")["trial"] == 0
        assert repr(f"{name}-") in get(client, f"{place}-", 404)["error"]


def test_pages_that_draw_have_plotly_fetched_early_from_where_it_is(client):
    [link] = client.get("/study/first", headers={"Host": "127.0.0.1"}).headers.getlist("Link")
    address, _, rest = link.partition(">")
    assert rest == "; rel=preload; as=script"
    answer = client.get(address.strip("<"), headers={"Host": "127.0.0.1"})
    assert (answer.status_code, answer.mimetype) == (200, "text/javascript")
    assert "Link" not in client.get("/jobs", headers={"Host": "127.0.0.1"}).headers


def test_trials_are_compared_image_by_image(client):
    found = get(client, "/studies/first/trials/4/compare?with=2")
    assert found["n_images"] == 40
    assert found["images"] == "search"
    assert found["difference_pct"] == pytest.approx(100 * ((7 * 4) % 12 - (7 * 2) % 12) / 40)
    get(client, "/studies/first/trials/4/compare?with=x", 400)


def test_the_front_as_a_table_holds_no_formulas(served, client):
    rows = list(csv.DictReader(io.StringIO(get(client, "/studies/first/front.csv"))))
    assert [int(row["trial"]) for row in rows] == [t["trial"] for t in get(client, "/studies/first/front")["front"]]
    trial = served[0].trial(1, 0)
    for text in ("=cmd()", "+1", "-1", "@x", "\t=1", "\r=1"):
        changed = type(trial)(**{**vars(trial), "method": text, "gflops": -1.5})
        [row] = csv.DictReader(io.StringIO(table_of([changed], "top1"), newline=""))
        assert row["method"] == f"'{text}".replace("\r", " ")
        assert row["gflops"] == "-1.5", "a negative number is a number"


def test_what_a_model_can_cost_is_known_from_any_study_of_it(served, client):
    store = served[0]
    architecture = load_model("shapes_vit_small").architecture
    settings = {"study": "x", "model": {"name": "shapes_vit_small", "checkpoint": None, "arguments": {}}}
    spec = {"settings": settings, "architecture": architecture.model_dump(mode="json")}
    store.create_study(new_study("other", spec=spec))
    found = post(client, "/budget", {"model": "shapes_vit_small", "budget": "65%", "method": "tome"}, 200)
    assert found["is_satisfiable"]
    assert found["budget_gflops"][1] == pytest.approx(0.65 * found["dense_gflops"])
    assert not post(client, "/budget", {"model": "shapes_vit_small", "budget": "1%"}, 200)["is_satisfiable"]
    post(client, "/budget", {"model": "shapes_vit_small", "budget": "lots"}, 400)
    assert store.jobs.page()[1] == 0, "no model had to be read"


def test_a_database_that_is_away_is_told_as_such(tmp_path):
    with Store(f"sqlite:///{tmp_path}/test.db", create=True) as store:
        client = Client(make_wsgi(Desk(store), Access.of("127.0.0.1", None)))
        get(client, "/health")
        store.close()
        for path in tmp_path.glob("test.db*"):
            path.unlink()
        (tmp_path / "test.db").write_text("no database any more, " * 100)
        assert "cannot use" in get(client, "/health", 503)["error"]


def test_every_page_can_be_made_and_one_that_is_not_there_says_so(served):
    desk = served[1]
    for path in ("/", "/launch", "/jobs", "/study/first", "/study/first/trial/3", "/study/first/trial/3/images"):
        assert "not here" not in str(page_of(desk, path))
    for path in ("/study/none", "/study/first/trial/99", "/jobs/4"):
        assert "H1('It is not here.')" in str(page_of(desk, path))
    assert "H1('There is no such page.')" in str(page_of(desk, "/nowhere"))


def test_a_trial_that_cannot_be_compared_is_not_offered_to_be(tmp_path):
    with Store(f"sqlite:///{tmp_path}/test.db", create=True) as store:
        study = store.create_study(new_study())
        for number in range(2):
            store.add_trial(study.id, new_trial(number))
        store.finish_trial(study.id, 0, measurement(30), "worker")
        store.fail_trial(study.id, 1, "it failed", "Traceback", "worker")
        complete, failed = (str(page_of(Desk(store), f"/study/{study.name}/trial/{n}")) for n in range(2))
        assert "trial-other" in complete
        assert "trial-other" not in failed


def test_the_page_offers_every_sampler():
    from dashboard.asking import Launch

    assert set(Launch.model_fields["sampler"].annotation.__args__) == {"auto", *SAMPLERS}


def test_a_search_over_latency_is_asked_for_without_a_budget_of_gflops_or_races():
    from dashboard.asking import Launch
    from search.config import SearchSettings

    def settings(**changes):
        request = Launch.parse({"study": "s", "model": "shapes_vit_small", "data": "shapes", **changes}).job(Roots())
        return SearchSettings.parse({**request["settings"], "device": "cpu"})

    front, best = settings(cost="latency_ms"), settings(budget_ms="80%")
    assert (front.is_front, front.race, front.budget) == (True, False, "100%")
    assert (best.is_front, best.times_latency, best.budget_ms) == (False, True, "80%")
    assert not settings(budget="65%").times_latency
    with pytest.raises(InvalidInput, match="budget: Field required"):
        settings()
    with pytest.raises(InvalidInput, match="a budget in ms is"):
        settings(budget_ms="soon")


def test_the_pages_of_a_study_over_latency_say_ms_and_on_what(tmp_path):
    with Store(f"sqlite:///{tmp_path}/test.db", create=True) as store:
        record = store.create_study(new_study(spec=timing_spec(None, 6.0)))
        desk = Desk(store)
        for tab in TABS:
            tab_content(desk, "first", tab, LIGHT, has_webgl=True)
        assert "Best under" in str(page_of(desk, "/study/first")), "before anything was measured"
        store.add_measurement(record.id, None, MeasurementKind.SEARCH, timed(measurement(38), 8.0))
        for number, latency in enumerate((4.0, 5.0, 6.5)):
            store.add_trial(record.id, new_trial(number))
            found = timed(measurement(20 + number), latency)
            store.finish_trial(record.id, number, found, "w", is_infeasible=latency > 6)
        assert "5 ms" in str(page_of(desk, "/"))
        assert "6 ms" in str(page_of(desk, "/"))
        shown = str(tab_content(desk, "first", "front", LIGHT, has_webgl=True))
        assert "latency (ms)" in shown
        assert "4 [3.9, 4.1]" in shown
        assert "8 ms (dense) and 0 %" in str(tab_content(desk, "first", "history", LIGHT, has_webgl=True))
        assert "timed on" in str(tab_content(desk, "first", "about", LIGHT, has_webgl=True))
        complete, late = (str(page_of(desk, f"/study/first/trial/{number}")) for number in (0, 2))
        on = "medians with 95 % intervals, on Some CPU, 2 threads, torch 2, eager, float32"
        assert f"latency of one image 4 [3.9, 4.1] ms, of a batch of 64 160 ms: {on}" in complete
        assert "ms, one image" in complete
        assert "it takes 6.5 [6.4, 6.6] ms an image on Some CPU, 2 threads, over the budget of 6 ms" in late
        front = get(Client(make_wsgi(desk, Access.of("127.0.0.1", None))), "/studies/first/front")
        assert (front["cost"], [trial["trial"] for trial in front["front"]]) == ("latency_ms", [0, 1])
        assert front["front"][0]["measured"]["latency_ms_interval"] == [3.9, 4.1]
