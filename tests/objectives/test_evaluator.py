from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from objectives.evaluator import Evaluator, NonFiniteOutputs
from objectives.image_costs import CostsDisagree
from objectives.images import PreparedImages
from objectives.statistics import unpack
from objectives.visits import Visits
from pruning import pruned, read_architecture
from pruning.preprocessing import Preprocessing
from pruning.reduction import Keep
from spaces import InvalidInput, RandomDrop, ZeroTPrune, dense_cost
from tests.tiny import tiny_vit

HALF = Preprocessing(input_size=(3, 32, 32), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)
LAYOUT = ZeroTPrune(after=(1, 2), keep_rate=(0.7, 0.6), s=2)


def images(n: int = 50, labels: bool = True) -> PreparedImages:
    generator = np.random.default_rng(0)
    return PreparedImages(
        pixels=generator.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8),
        labels=generator.integers(0, 5, n) if labels else np.full(n, -1),
        numbers=np.arange(1000, 1000 + n),
        list_hash="some list",
    )


def evaluator(model=None, held=None, **options) -> Evaluator:
    return Evaluator(model or tiny_vit(), "tiny", held or images(), HALF, **options)


def test_a_measurement_is_what_a_plain_loop_over_the_images_gives():
    model, held = tiny_vit(), images()
    inputs = (torch.tensor(held.pixels).float() / 255 - 0.5) / 0.5
    with torch.inference_mode():
        dense = model(inputs)
        with pruned(model, LAYOUT):
            logits = model(inputs)
    measured = evaluator(model, held, batch_size=16)
    measured.measure_dense()
    found = measured.measure(LAYOUT)
    right = logits.argmax(1).numpy() == held.labels
    agree = logits.argmax(1) == dense.argmax(1)
    assert found.values["top1_pct"].value == pytest.approx(100 * right.mean())
    assert found.values["agreement_pct"].value == pytest.approx(100 * agree.double().mean().item())
    divergence = functional.kl_div(logits.log_softmax(1), dense.softmax(1), reduction="batchmean")
    assert found.values["kl_nats"].value == pytest.approx(divergence.item(), rel=1e-4)
    np.testing.assert_array_equal(unpack(found.outcomes["top1_pct"], 50), right)
    np.testing.assert_array_equal(unpack(found.outcomes["agreement_pct"], 50), agree.numpy())
    assert found.macs == LAYOUT.cost(read_architecture(model)).macs
    assert found.tokens_per_block == LAYOUT.cost(read_architecture(model)).tokens_per_block
    assert found.image_list_hash == "some list"


def test_the_dense_model_agrees_with_itself():
    model = tiny_vit()
    found, reference = evaluator(model).measure_dense()
    assert found.values["agreement_pct"].value == 100
    assert found.values["kl_nats"].value == pytest.approx(0, abs=1e-12)
    assert found.macs == dense_cost(read_architecture(model)).macs
    assert reference.logits.shape == (50, 5)


def test_a_reference_from_elsewhere_serves_as_well():
    first, second = evaluator(), evaluator()
    _, reference = first.measure_dense()
    second.compare_with(reference)
    one, two = first.measure(LAYOUT), second.measure(LAYOUT)
    assert (one.values, one.outcomes) == (two.values, two.outcomes)


@pytest.mark.parametrize("layout", [LAYOUT, RandomDrop(after=(1,), keep_rate=(0.4,))])
def test_the_batch_size_changes_no_outcome(layout):
    found = []
    for batch_size in (1, 7, 50):
        measured = evaluator(batch_size=batch_size)
        measured.measure_dense()
        found.append(measured.measure(layout).outcomes)
    assert found[0] == found[1] == found[2]


def test_without_labels_there_is_agreement_and_no_top1():
    measured = evaluator(held=images(labels=False))
    measured.measure_dense()
    assert set(measured.measure(LAYOUT).values) == {"agreement_pct", "kl_nats"}


def test_outputs_that_are_not_numbers_are_an_error_and_no_zero():
    model = tiny_vit()
    measured = evaluator(model)
    measured.measure_dense()
    with torch.no_grad():
        model.head.bias[2] = torch.nan
    with pytest.raises(NonFiniteOutputs, match="NaN or infinite for 50 of a batch of 50 images"):
        measured.measure(LAYOUT)
    with pytest.raises(NonFiniteOutputs):
        evaluator(model).measure_dense()


def test_a_layout_that_does_not_fit_is_refused():
    measured = evaluator()
    measured.measure_dense()
    with pytest.raises(InvalidInput, match="has only 4 blocks"):
        measured.measure(RandomDrop(after=(7,), keep_rate=(0.5,)))


def test_a_closed_form_with_the_wrong_tokens_is_found_out(monkeypatch):
    measured = evaluator()
    measured.measure_dense()
    monkeypatch.setattr("pruning.apply._STAGES", {"random_drop": lambda *_: [Keeps(3)]})
    with pytest.raises(CostsDisagree, match=r"\(17, 9, 9, 9\) tokens enter the blocks, but \(17, 4, 4, 4\) did"):
        measured.measure(RandomDrop(after=(1,), keep_rate=(0.5,)))


def test_a_closed_form_with_too_few_operations_is_found_out(monkeypatch):
    measured = evaluator()
    measured.measure_dense()
    monkeypatch.setattr("pruning.apply._STAGES", {"random_drop": lambda *_: [Keeps(8, extra_work=True)]})
    with pytest.raises(CostsDisagree, match="were counted"):
        measured.measure(RandomDrop(after=(1,), keep_rate=(0.5,)))


class Keeps:
    block, where, needs_attention, counts_sizes = 1, "after", False, False

    def __init__(self, n, *, extra_work=False):
        self.n, self.extra_work = n, extra_work

    def __call__(self, trace):
        if self.extra_work:
            trace.x @ trace.x.transpose(1, 2)
        return Keep(torch.arange(self.n).expand(len(trace.x), self.n), n_in=16)


def test_a_race_is_looked_at_after_the_same_images_however_small_the_memory_makes_the_batches():
    measured = evaluator(batch_size=14)
    measured.measure_dense()
    smaller = measured.with_smaller_batches().with_smaller_batches()
    looked = {measured: [], smaller: []}
    found = []
    for each, n_seen in looked.items():
        found.append(each.measure(LAYOUT, lambda hits, seen=n_seen: seen.append(hits["agreement_pct"].size)))
    assert looked[measured] == looked[smaller] == [14, 28, 42]
    assert [each.batch_size for each in found] == [14, 3]
    assert found[0].outcomes == found[1].outcomes
    stopped = smaller.measure(LAYOUT, lambda hits: hits["agreement_pct"].size == 28)
    assert stopped.n_images == 28


def test_a_measurement_that_is_stopped_is_of_the_first_images_alone():
    measured = evaluator(batch_size=16)
    measured.measure_dense()
    whole, seen = measured.measure(LAYOUT), []

    def enough(hits):
        seen.append(len(hits["top1_pct"]))
        return len(seen) == 2

    stopped = measured.measure(LAYOUT, enough)
    assert seen == [16, 32]
    assert stopped.n_images == 32
    np.testing.assert_array_equal(unpack(stopped.outcomes["top1_pct"], 32), unpack(whole.outcomes["top1_pct"], 50)[:32])
    assert stopped.macs == whole.macs
    assert stopped.image_list_hash == whole.image_list_hash
    assert measured.measure(LAYOUT, lambda _: False).values == whole.values


def test_a_measurement_may_be_of_a_sample_and_of_the_hardest_images():
    measured = evaluator(batch_size=16)
    measured.measure_dense()
    whole, seen = measured.measure(LAYOUT), []
    visits = Visits(10, np.tri(50, dtype=bool).T)  # the later, the harder

    def enough(hits):
        seen.append(hits["top1_pct"])
        return len(seen) == 2

    stopped = measured.measure(LAYOUT, enough, visits)
    places = [*range(10), *range(28, 50)]
    assert stopped.n_images == 32
    assert stopped.part.places.tolist() == places
    np.testing.assert_array_equal(stopped.hits("top1_pct"), whole.hits("top1_pct")[places])
    np.testing.assert_array_equal(seen[1], whole.hits("top1_pct")[visits.order[:32]])
    assert stopped.values["top1_pct"] == stopped.part.proportion_pct(whole.hits("top1_pct")[places])
    assert stopped.values["kl_nats"].value != whole.values["kl_nats"].value
    assert measured.measure(LAYOUT, lambda _: False, visits) == replace(
        whole, seconds=pytest.approx(whole.seconds, abs=60)
    )


def test_half_precision_rounds_products_and_scores_tokens_in_float32():
    dtypes = set()

    class Watching(Keeps):
        needs_attention = True

        def __call__(self, trace):
            dtypes.update({trace.maps.weights.dtype, trace.maps.key.dtype, (trace.x @ trace.x.mT).dtype})
            return super().__call__(trace)

    plain, half = evaluator(), evaluator(precision="bfloat16")
    (_, said), (measured, said_in_half) = plain.measure_dense(), half.measure_dense()
    assert measured.precision == "bfloat16"
    assert 0 < np.abs(said.logits - said_in_half.logits).max() < 0.1
    model = tiny_vit()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        patch.setattr("pruning.apply._STAGES", {"random_drop": lambda *_: [Watching(8)]})
        with pruned(model, RandomDrop(after=(1,), keep_rate=(0.5,))):
            model(torch.zeros(2, 3, 32, 32))
    assert dtypes == {torch.float32}


def test_images_that_may_not_be_written_can_be_measured():
    held = images()
    held.pixels.setflags(write=False)
    measured = evaluator(held=held)
    measured.measure_dense()
    assert measured.measure(LAYOUT).n_images == 50


def test_the_model_is_dense_again_after_a_measurement():
    model = tiny_vit()
    blocks = list(model.blocks)
    measured = evaluator(model)
    measured.measure_dense()
    measured.measure(LAYOUT)
    assert all(one is two for one, two in zip(model.blocks, blocks, strict=True))
