"""DToP at work: its laws, and a slow twin that does it image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from objectives.cost import count_macs
from pruning import prune, pruned, read_architecture
from pruning.dtop import surest
from pruning.segmentation.packing import PackedTokens
from spaces import DToP, InvalidInput, UnsupportedModel
from tests.tiny import tiny_images, tiny_vit
from tests.tiny_segmenter import TINY_KINDS, tiny_segmenter

P0 = {"fcn": 0.45, "atm": 0.35}  # at which the tiny models finish about half of their tokens
RULES = {
    "topk": {"rule": "topk", "k": 2},
    "remove": {"rule": "remove"},
    "average": {"rule": "average"},
    "fixed_ratio": {"rule": "fixed_ratio", "ratio": 0.35},
}


@pytest.fixture(params=TINY_KINDS)
def model(request):
    return tiny_segmenter(**TINY_KINDS[request.param])


@pytest.fixture
def images() -> torch.Tensor:
    return tiny_images(3, 64)


def layout(model, **settings) -> DToP:
    return DToP.parse({"after": (2, 4), "p0": P0[model.head_kind], "k": 2, **settings})


@torch.inference_mode()
def run(model, config, images):
    """Give the scores of all patches and what became of their tokens."""
    with pruned(model, config) as pruning:
        scores = model.forward_scores(images)
        assert pruning.early_exit is not None
        return scores, pruning.early_exit.exits


@torch.inference_mode()
def one_image_slowly(model, config, image):
    """Do what the paper says, one image and one token after the other; scores and counts."""
    n_prefix, n_patch = model.encoder.num_prefix_tokens, 64
    x = model.embed(image[None])[0]
    places = [None] * n_prefix + list(range(n_patch))
    canvas, stage_of, classes, counts = [None] * n_patch, [0] * n_patch, [], []
    done = 0
    for number, after in enumerate((*config.after, 6)):
        for block in list(model.encoder.blocks)[done:after]:
            x = block(x[None])[0]
        done = after
        head, seen = model.head(after), model.encoder.norm(x) if after == 6 else x
        said = head(PackedTokens.of(seen[None, n_prefix:]))
        if said.classes is not None:
            classes.append(said.classes[0] if len(x) > n_prefix or not classes else classes[-1])
        for row, place in enumerate(places[n_prefix:]):
            if place is not None:
                canvas[place], stage_of[place] = said.masks[row], number
        if after == 6:
            break
        probability = head.probabilities(said.masks, classes[-1] if classes else None)
        rows = [row for row, place in enumerate(places) if place is not None]
        sure = {row: float(probability[row - n_prefix].max()) for row in rows}
        winner = {row: int(probability[row - n_prefix].argmax()) for row in rows}
        by_confidence = sorted(rows, key=lambda row: -sure[row])
        if config.rule == "fixed_ratio":
            finished = by_confidence[: int(len(rows) * config.ratio)]
        else:
            finished = [row for row in by_confidence if sure[row] > config.p0]
        if config.rule == "topk":
            context = {row for c in range(5) for row in [r for r in finished if winner[r] == c][: config.k]}
            finished = [row for row in finished if row not in context]
        means = [
            torch.stack([x[row] for row in finished if winner[row] == c]).mean(0)
            for c in sorted({winner[row] for row in finished})
            if config.rule == "average"
        ]
        kept = [row for row in range(len(x)) if row not in finished]
        x = torch.stack([*(x[row] for row in kept), *means]) if kept or means else x[:0]
        places = [places[row] for row in kept] + [None] * len(means)
        counts.append(len(x) - n_prefix)
    merged = torch.stack(canvas)
    if classes:
        own = torch.stack([classes[stage] for stage in stage_of])
        merged = head.scores(merged, own if config.merge == "exit_stage" else classes[-1])
    return merged, counts, stage_of


@pytest.mark.parametrize("merge", ["official", "exit_stage"])
@pytest.mark.parametrize("rule", RULES)
def test_packed_images_get_what_the_paper_gives_them_one_by_one(model, images, rule, merge):
    config = layout(model, merge=merge, **RULES[rule])
    scores, exits = run(model, config, images)
    for index, image in enumerate(images):
        expected, counts, stages = one_image_slowly(model, config, image)
        torch.testing.assert_close(scores[index], expected, rtol=0, atol=1e-5)
        assert exits.n_kept[index].tolist() == counts
        assert exits.stage[index].tolist() == stages
    assert 0 < (exits.stage < 2).float().mean() < 1
    if rule != "fixed_ratio":
        assert len({tuple(counts) for counts in exits.n_kept.tolist()}) > 1


@pytest.mark.parametrize(
    "nothing",
    [
        {"p0": 1.0},
        {"k": 64},
        {"rule": "remove", "p0": 1.0},
        {"rule": "fixed_ratio", "ratio": 0.0},
        {"merge": "exit_stage", "p0": 1.0},
        {"after": ()},
    ],
)
def test_finishing_nothing_changes_nothing(model, images, nothing):
    with torch.inference_mode():
        dense = model(images)
        with pruned(model, layout(model, **nothing)):
            torch.testing.assert_close(model(images), dense, rtol=0, atol=1e-5)
        assert torch.equal(model(images), dense)


def test_tokens_at_or_under_p0_always_stay(model, images):
    config = layout(model, after=(2,), rule="remove")
    _, exits = run(model, config, images)
    with torch.inference_mode():
        tokens = model.run_blocks(PackedTokens.of(model.embed(images)), 0, 2)
        patches = PackedTokens.of(tokens.rectangle()[:, model.encoder.num_prefix_tokens :])
        said = model.head(2)(patches)
        classes = None if said.classes is None else said.classes.repeat_interleave(64, dim=0)
        sure = model.head(2).probabilities(said.masks, classes).amax(-1).view(3, 64)
    assert torch.equal(exits.stage == 0, sure > config.p0)


def test_a_finished_token_keeps_what_its_head_said(model, images):
    """Later heads and blocks are turned to noise: what was finished before them does not move."""
    config = layout(model, merge="exit_stage", rule="remove")
    before, exits = run(model, config, images)
    with torch.no_grad():
        for block in list(model.encoder.blocks)[4:]:
            for parameter in block.parameters():
                parameter.normal_()
        for parameter in model.head(6).parameters():
            parameter.normal_()
    after, exits_after = run(model, config, images)
    assert torch.equal(exits.stage, exits_after.stage)
    assert torch.equal(before[exits.stage < 2], after[exits.stage < 2])
    assert not torch.equal(before[exits.stage == 2], after[exits.stage == 2])


def test_as_p0_falls_no_image_costs_more(model, images):
    architecture = read_architecture(model)
    costs = []
    for p0 in (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2):
        config = layout(model, after=(2,), rule="remove", p0=p0)
        _, exits = run(model, config, images)
        costs.append([config.cost_of_image(architecture, kept).macs for kept in exits.n_kept.tolist()])
    by_p0 = np.array(costs)  # (p0, image)
    assert (np.diff(by_p0, axis=0) <= 0).all()
    assert by_p0[0].sum() > by_p0[-1].sum()


@pytest.mark.parametrize("rule", RULES)
def test_what_runs_is_what_the_closed_form_counts_from_the_active_tokens(model, images, rule):
    config, architecture = layout(model, **RULES[rule]), read_architecture(model)
    for image in images:
        with pruned(model, config) as pruning:
            counted = count_macs(model, image[None], model.forward_scores)
        kept = pruning.early_exit.exits.n_kept[0].tolist()
        assert counted == config.cost_of_image(architecture, kept).macs


def test_a_subset_of_the_heads_grades_and_the_others_do_not_run(model, images):
    with torch.no_grad():
        for parameter in model.head(4).parameters():
            parameter.fill_(torch.nan)
    scores, exits = run(model, layout(model, after=(2,)), images)
    assert exits.n_kept.shape == (3, 1)
    assert torch.isfinite(scores).all()


def test_each_head_may_have_its_own_p0(model, images):
    only_second = run(model, layout(model, p0=(1.0, 0.3)), images)[1]
    assert (only_second.n_kept[:, 0] == 64).all()
    assert (only_second.n_kept[:, 1] < 64).any()


def test_an_image_of_which_nothing_is_left_keeps_its_early_word(model, images):
    scores, exits = run(model, layout(model, rule="remove", p0=0.01), images)
    assert (exits.n_kept == 0).all()
    tokens = model.run_blocks(PackedTokens.of(model.embed(images)), 0, 2)
    torch.testing.assert_close(scores, model.read(2, tokens), rtol=0, atol=1e-5)


def test_pruning_for_good_stays(images):
    model = tiny_segmenter()
    expected = run(model, layout(model), images)[0]
    assert torch.equal(prune(model, layout(model)).forward_scores(images), expected)


def test_pruning_twice_is_refused():
    model = tiny_segmenter()
    with (
        pruned(model, layout(model)),
        pytest.raises(InvalidInput, match="is pruned already: leave its pruned"),
        pruned(model, layout(model)),
    ):
        pass


def test_a_head_missing_at_a_graded_stage_is_refused():
    model = tiny_segmenter()
    with (
        pytest.raises(InvalidInput, match="grades after block 3, but Segmenter has no head there"),
        pruned(model, DToP(after=(3,))),
    ):
        pass


def test_a_classifier_is_refused():
    model = tiny_vit()
    with pytest.raises(UnsupportedModel, match="dtop cannot prune VisionTransformer"), pruned(model, DToP(after=(2,))):
        pass


def test_of_each_group_the_surest_are_taken():
    generator = torch.Generator().manual_seed(5)
    confidence, group = torch.rand(60, generator=generator), torch.randint(0, 7, (60,), generator=generator)
    eligible = torch.rand(60, generator=generator) > 0.3
    taken = surest(confidence, group, torch.full((60,), 3), eligible)
    for number in range(7):
        members = (eligible & (group == number)).nonzero()[:, 0]
        best = members[confidence[members].argsort(descending=True)[:3]]
        assert set(taken.nonzero()[:, 0].tolist()) & set(members.tolist()) == set(best.tolist())
    assert not taken[~eligible].any()
