from __future__ import annotations

import numpy as np
import pytest
import torch

from objectives.image_costs import CostsDisagree
from objectives.metrics import unpack_counts
from objectives.statistics import mean_of
from objectives.visits import Visits
from pruning import pruned, read_architecture
from spaces import Ats
from tests.objectives.test_evaluator import evaluator, images
from tests.tiny import TINY_MODELS, tiny_vit

LAYOUT = Ats(in_attention=(1, 3), k=(17, 10))


def measure(layout=LAYOUT, model=None, **options):
    measured = evaluator(model, **options)
    measured.measure_dense()
    return measured.measure(layout)


def test_the_cost_is_the_mean_of_the_images_own_costs():
    model, held = tiny_vit(), images(20)
    architecture = read_architecture(model)
    found = measure(model=model, held=held, batch_size=8)
    inputs = (torch.tensor(held.pixels).float() / 255 - 0.5) / 0.5
    counts = []
    with torch.inference_mode(), pruned(model, LAYOUT) as pruning:
        for index in range(20):
            model(inputs[index : index + 1])
            counts.append([int(pruning.n_kept[block]) for block in (1, 3)])
    costs = [LAYOUT.cost_of_image(architecture, each) for each in counts]
    assert unpack_counts(found.n_kept, 20).tolist() == counts
    assert found.macs == round(np.mean([cost.macs for cost in costs]))
    assert found.measured_gflops == mean_of(np.array([cost.gflops for cost in costs]))
    assert found.measured_gflops.low < found.gflops < found.measured_gflops.high
    tokens = np.mean([cost.tokens_per_block for cost in costs], axis=0)
    assert found.tokens_per_block == pytest.approx(tuple(tokens), abs=0.005)


def test_what_fills_a_batch_is_no_part_of_the_cost():
    found = [measure(batch_size=batch_size) for batch_size in (1, 7, 50)]
    assert found[0].values["gflops"] == found[1].values["gflops"] == found[2].values["gflops"]
    assert found[0].n_kept == found[1].n_kept == found[2].n_kept
    assert found[0].outcomes == found[1].outcomes == found[2].outcomes


@pytest.mark.parametrize("name", ["LV-ViT", "TNT", "MAE", "distilled DeiT"])
def test_every_family_is_measured(name):
    found = measure(model=TINY_MODELS[name](), held=images(12), batch_size=4)
    assert found.measured_gflops.value == pytest.approx(found.gflops, abs=1e-9)


def test_a_layout_without_layers_costs_every_image_the_same():
    found = measure(Ats(in_attention=(), k=17))
    assert found.measured_gflops is None
    assert found.n_kept is None
    assert found.values["agreement_pct"].value == 100


def test_a_stopped_measurement_costs_what_the_images_until_then_did():
    measured = evaluator(batch_size=16)
    measured.measure_dense()
    whole, part = measured.measure(LAYOUT), measured.measure(LAYOUT, lambda _: True)
    assert part.n_images == 16
    assert np.array_equal(unpack_counts(part.n_kept, 16), unpack_counts(whole.n_kept, 50)[:16])
    assert part.measured_gflops != whole.measured_gflops


def test_a_mean_cost_from_a_sample_and_the_hardest_images_weighs_them():
    measured = evaluator(batch_size=16)
    measured.measure_dense()
    visits = Visits(6, np.tri(50, dtype=bool).T)  # the later, the harder
    whole, stopped = measured.measure(LAYOUT), measured.measure(LAYOUT, lambda _: True, visits)
    n_kept = unpack_counts(whole.n_kept, 50)
    assert np.array_equal(unpack_counts(stopped.n_kept, 16), n_kept[stopped.part.places])
    macs = np.array([LAYOUT.cost_of_image(measured.architecture, row.tolist()).macs for row in n_kept])
    assert stopped.gflops == pytest.approx((macs[40:].sum() + 40 * macs[:6].mean()) / 50e9)
    assert stopped.measured_gflops.low < stopped.gflops < stopped.measured_gflops.high
    assert measured.measure(LAYOUT, visits=visits).n_kept == whole.n_kept


def test_a_closed_form_that_one_image_alone_contradicts_is_found_out(monkeypatch):
    monkeypatch.setattr(Ats, "cost_of_image", lambda self, architecture, _: self.least_cost(architecture))
    with pytest.raises(CostsDisagree, match="were counted for Ats"):
        measure()


def test_more_tokens_than_a_layer_can_keep_are_found_out(monkeypatch):
    monkeypatch.setattr("pruning.ats.sampled", lambda scores, *_: torch.ones_like(scores, dtype=torch.bool))
    with pytest.raises(CostsDisagree, match=r"can keep 1 to \[16, 9\] patches, but there were \[16, 16\]"):
        measure()


def test_a_mean_of_one_value_has_no_interval_and_of_equal_ones_a_narrow_one():
    assert mean_of(np.array([2.0])).high is None
    equal = mean_of(np.full(9, 2.0))
    assert (equal.low, equal.high) == (2.0, 2.0)


def test_the_interval_of_a_mean_covers_it_as_often_as_stated():
    chance = np.random.default_rng(0)
    found = [mean_of(chance.exponential(size=60)) for _ in range(2000)]
    covered = np.mean([estimate.low <= 1.0 <= estimate.high for estimate in found])
    assert covered == pytest.approx(0.95, abs=0.025)
