"""What the guard refuses, on every route and method, and that nothing came of it."""

from __future__ import annotations

import json

import pytest
from werkzeug.test import Client

from dashboard.desk import Desk
from dashboard.roots import Roots
from dashboard.security import MAX_BODY_BYTES, Access, read_token_file
from dashboard.server import make_wsgi
from spaces import InvalidInput
from storage import JobState, Store
from tests.storage.records import measurement, new_study, new_trial

TOKEN = "a-token-that-nobody-guesses"
ROUTES = ["/", "/api/health", "/api/studies", "/_dash-layout", "/_dash-update-component", "/assets/style.css", "/none"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
LAUNCH = {"study": "new", "model": "shapes_vit_small", "data": "shapes", "budget": "65%", "n_trials": 4}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve an empty store, with roots beside a file that nobody may name."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "data" / "images").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "secret.pth").write_bytes(b"secret")
    (folder / "data" / "away").symlink_to(folder)
    with Store(f"sqlite:///{folder}/test.db", create=True) as store:
        desk = Desk(store, Roots(data=(folder / "data",), model=(folder / "models",)), max_queued=2)
        yield store, make_wsgi(desk, Access.of("127.0.0.1", TOKEN))


@pytest.fixture
def store(served):
    yield served[0]
    for job in served[0].jobs.page()[0]:
        served[0].jobs.cancel(job.id)


@pytest.fixture
def client(served):
    return Client(served[1])


def ask(client, path="/api/studies", method="POST", *, token=TOKEN, host="127.0.0.1:8050", body=LAUNCH, **more):
    headers = {"Host": host, **more.pop("headers", {})}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    arguments = {"content_type": "application/json", **more}
    if method in ("GET", "HEAD"):
        return client.open(path, method=method, headers=headers)
    return client.open(path, method=method, headers=headers, data=body, **arguments)


def n_jobs(store) -> int:
    return store.jobs.page(states=[JobState.QUEUED])[1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "forged",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8050"},
        {"host": "evil.example@127.0.0.1"},
        {"headers": {"Origin": "http://evil.example"}},
        {"headers": {"Origin": "null"}},
        {"headers": {"Origin": "http://127.0.0.1:9999"}},
    ],
)
def test_a_forged_host_or_a_foreign_origin_is_refused_everywhere(client, store, route, method, forged):
    assert ask(client, route, method, **forged).status_code == 403
    assert n_jobs(store) == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", f"{TOKEN}\u00e9"])
def test_nothing_is_shown_without_the_token(client, store, route, method, token):
    expected = 401 if method in ("GET", "HEAD", "POST") else 405
    answer = ask(client, route, method, token=token)
    assert answer.status_code == expected
    assert b"prunefront_" not in answer.data
    assert n_jobs(store) == 0


def test_a_cross_site_request_is_refused_even_with_the_cookie(client, store):
    client.get(f"/login?token={TOKEN}", headers={"Host": "localhost:8050"})
    for site in ("cross-site", "same-site"):
        answer = ask(client, token=None, host="localhost:8050", headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 403
    assert n_jobs(store) == 0


def test_the_token_is_exchanged_for_a_cookie_that_scripts_cannot_read(client, store):
    answer = client.get(f"/login?token={TOKEN}", headers={"Host": "localhost:8050"})
    cookie = answer.headers["Set-Cookie"]
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert ask(client, token=None, host="localhost:8050").status_code == 201
    assert n_jobs(store) == 1


@pytest.mark.parametrize("path", ["/login", "/login?token=", "/login?token=wrong", "/"])
def test_a_page_without_the_token_asks_for_it(client, path):
    answer = client.get(path, headers={"Host": "localhost", "Accept": "text/html"})
    assert answer.status_code == 401
    assert b'name="token"' in answer.data
    assert "Set-Cookie" not in answer.headers


def test_the_right_token_and_name_are_let_in(client, store):
    for host in ("127.0.0.1", "localhost:8050", "[::1]:8050", "LOCALHOST"):
        assert ask(client, "/api/health", "GET", host=host, headers={"Origin": f"http://{host}"}).status_code == 200
    assert ask(client).status_code == 201
    assert n_jobs(store) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"study=new", "application/x-www-form-urlencoded", 415),
        (json.dumps(LAUNCH).encode(), "text/plain", 415),
        (json.dumps(LAUNCH).encode(), None, 415),
        (b"", "application/json", 400),
        (b"{not json", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"' + b"x" * MAX_BODY_BYTES + b'"', "application/json", 413),
    ],
)
def test_a_change_that_is_no_json_of_a_reasonable_size_is_refused(client, store, body, content_type, status):
    assert ask(client, body=body, content_type=content_type).status_code == status
    if status != 400:
        assert ask(client, "/_dash-update-component", body=body, content_type=content_type).status_code == status
    assert n_jobs(store) == 0


ESCAPES = ["../secret.pth", "/etc/passwd", "away/secret.pth", "images/../../secret.pth", "secret.pth\0", "x" * 400]


@pytest.mark.parametrize("place", ESCAPES)
@pytest.mark.parametrize("field", ["checkpoint", "data", "labels", "class_map", "split", "model"])
def test_no_field_leads_out_of_the_roots(client, store, field, place):
    value = f"local-dir:{place}" if field == "model" else place
    answer = ask(client, body={**LAUNCH, field: value})
    assert answer.status_code == 400
    assert n_jobs(store) == 0


def test_the_server_names_what_is_exported(client, store):
    study = store.create_study(new_study("..name"))
    store.add_trial(study.id, new_trial(0))
    store.finish_trial(study.id, 0, measurement(30), "worker")
    for suffix in ("pt", "..%2F..%2Fsecret.pth", "json%00", "exe"):
        assert ask(client, f"/api/studies/..name/trials/0/layout.{suffix}", "GET").status_code == 404
    answer = ask(client, "/api/studies/..name/trials/0/layout.json", "GET")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="name-trial-0.json"'


@pytest.mark.parametrize(
    "change",
    [
        {"study": "<script>alert(1)</script>"},
        {"study": "../../etc"},
        {"study": "a\nb"},
        {"n_trials": 0},
        {"n_trials": 10**12},
        {"n_workers": 100_000},
        {"budget": "rm -rf /"},
        {"model": "__import__('os').system('true')"},
        {"model": "hf-hub:someone/model"},
        {"model": "hf_hub:someone/model"},
        {"pretrained": True},
        {"method": "exec"},
        {"space": {"checkpoint": "/etc/passwd"}},
        {"sampler": "$(id)"},
        {"arguments": {"pretrained_cfg_overlay": {"file": "/etc/passwd"}}},
        {"command": "id"},
    ],
)
def test_only_known_settings_in_their_ranges_are_taken(client, store, change):
    answer = ask(client, body={**LAUNCH, **change})
    assert answer.status_code == 400
    assert answer.get_json()["error"]
    assert n_jobs(store) == 0


def test_the_queue_is_bounded(client, store):
    for n in range(2):
        assert ask(client, body={**LAUNCH, "study": f"study-{n}"}).status_code == 201
    answer = ask(client, body={**LAUNCH, "study": "one-more"})
    assert (answer.status_code, n_jobs(store)) == (429, 2)


def test_what_is_not_there_is_not_found_and_nothing_is_told_of_the_inside(client, store):
    for path in ("/api/studies/none", "/api/jobs/7", "/api/jobs/7/log", "/api/studies/none/front.csv"):
        answer = ask(client, path, "GET")
        assert answer.status_code == 404
        assert b"Traceback" not in answer.data
    for query in ("offset=-1", "limit=0", "limit=501", "limit=x", "offset=99999999999999999999"):
        assert ask(client, f"/api/studies?{query}", "GET").status_code == 400


@pytest.mark.parametrize(("path", "method"), [("/", "GET"), ("/api/studies", "GET"), ("/login", "GET"), ("/x", "POST")])
def test_every_answer_carries_the_headers_that_browsers_obey(client, path, method):
    for token in (TOKEN, None):
        headers = ask(client, path, method, token=token, content_type="text/plain").headers
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        policy = headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy.partition("style-src")[0]
        assert "http" not in policy


def test_a_dashboard_that_can_be_reached_from_elsewhere_needs_a_token():
    with pytest.raises(InvalidInput, match=r"on 0\.0\.0\.0 can be reached from elsewhere and needs a token"):
        Access.of("0.0.0.0", None)
    with pytest.raises(InvalidInput, match="at least 16 characters, got 5"):
        Access.of("127.0.0.1", "short")
    assert Access.of("0.0.0.0", TOKEN, ["Lab.Example.org"]).hosts >= {"lab.example.org", "localhost"}


def test_a_token_file_is_made_once_and_for_its_owner_alone(tmp_path):
    path = tmp_path / "token"
    made = read_token_file(path)
    assert (path.stat().st_mode & 0o777, len(made) >= 43, read_token_file(path)) == (0o600, True, made)
    path.chmod(0o644)
    with pytest.raises(InvalidInput, match="others may read the token"):
        read_token_file(path)
