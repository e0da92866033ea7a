from __future__ import annotations

import json

from click.testing import CliRunner

from pruning.bundle import write_bundle
from pruning.models import load_model
from search.cli.main import cli
from spaces import layout_document, parse_layout

LAYOUT = parse_layout({"method": "cls_topk", "inside": [2, 3], "keep_rate": [0.3, 0.3]})


def test_the_verb_prints_a_row_for_each_model_and_runtime(place, tmp_path):
    write_bundle(tmp_path, load_model(place.model), layout_document(LAYOUT))
    arguments = [
        "bench",
        str(tmp_path),
        "--runtimes",
        "torch",
        "--batch-sizes",
        "1,2",
        "--seconds",
        "0",
        "--device",
        "cpu",
    ]
    said = CliRunner().invoke(cli, [*arguments, "--json"])
    assert said.exit_code == 0, said.stderr
    result = json.loads(said.stdout)
    assert [speed["who"] for speed in result["speeds"]] == ["dense", "pruned"]
    assert result["machine"].endswith(", 1 thread")
    table = CliRunner().invoke(cli, arguments).stdout
    assert "ms, batch 2 [quartiles]" in table
    assert len(table.splitlines()) == 4
    refused = CliRunner().invoke(cli, ["bench", str(tmp_path), "--batch-sizes", "many"])
    assert (refused.exit_code, "--batch-sizes takes whole numbers" in refused.stderr) == (2, True)
