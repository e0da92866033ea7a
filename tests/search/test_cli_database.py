from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from search.cli.main import cli
from storage import Store
from storage.database import SCHEMA_VERSION
from tests.storage.records import measurement, new_study, true_trial


def run(*arguments, stdin=None) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="prunefront", input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def database(path, *names) -> str:
    with Store(url := f"sqlite:///{path}", create=True) as store:
        for name in names:
            study = store.create_study(new_study(name))
            store.add_trial(study.id, true_trial(0))
            store.finish_trial(study.id, 0, measurement(30), "worker")
    return url


@pytest.fixture
def here(tmp_path) -> list[str]:
    return ["--db", database(tmp_path / "here.db", "first", "second")]


def test_upgrade_says_the_version(here):
    assert run("db", "upgrade", *here)[1].endswith(f"here.db: version {SCHEMA_VERSION}\n")
    assert json.loads(run("db", "upgrade", "--json", *here)[1]) == {"before": SCHEMA_VERSION, "after": SCHEMA_VERSION}


def test_check_fails_where_something_cannot_be(here):
    assert run("db", "check", *here) == (0, "nothing is wrong\n", "")
    with Store(here[1]) as store, store._writer.begin() as connection:
        connection.exec_driver_sql("UPDATE trials SET digest = 'x' WHERE study_id = 2")
    code, out, err = run("db", "check", *here)
    assert (code, "study 'second': trial 0 has the digest x" in out) == (1, True)
    assert err == f"prunefront: 1 things in {here[1]} cannot be\n"


def test_merge_says_what_came(here, tmp_path):
    other = database(tmp_path / "other.db", "second", "third")
    code, out, err = run("db", "merge", other, *here)
    assert (code, out) == (2, "")
    assert "another study 'second'" in err
    code, out, _ = run("db", "merge", other, "--rename", "second=theirs", *here)
    assert (code, out) == (0, "second is here now as theirs, with 1 trials\nthird is here now, with 1 trials\n")
    assert run("db", "merge", other, "--rename", "second=theirs", *here)[1].count("was here already") == 2
    assert run("db", "merge", other, "--rename", "second", *here)[0] == 2


def test_delete_asks_first_and_vacuum_says_what_it_gave_back(here):
    code, _, err = run("db", "delete", "first", *here, stdin="n\n")
    assert code == 1
    assert "delete the study first and all its trials" in err
    assert run("status", "first", "--json", *here)[0] == 0
    assert run("db", "delete", "first", "--yes", *here) == (0, "first and its 1 trials are deleted\n", "")
    assert run("status", "first", "--json", *here)[0] == 2
    assert "MB now" in run("db", "vacuum", *here)[1]


@pytest.mark.parametrize("verb", ["upgrade", "check", "merge", "delete", "vacuum"])
def test_every_verb_explains_itself_with_an_example(verb):
    code, out, _ = run("db", verb, "--help")
    assert code == 0
    assert f"  prunefront db {verb}" in out
