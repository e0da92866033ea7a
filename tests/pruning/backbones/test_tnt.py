"""A pruned TNT against the same model written out, and its own attention against timm's."""

from __future__ import annotations

import pytest
import torch

from pruning import pruned, read_architecture
from pruning.backbones.tnt import FAMILY, _look, _mix
from pruning.reduction import Keep, Merge
from spaces import RandomDrop, UnsupportedModel, ZeroTPrune
from tests.tiny import tiny_images, tiny_tnt

N_PATCH = 16


class Given:
    """A stage whose decision is made beforehand."""

    needs_attention = counts_sizes = False

    def __init__(self, block, where, reduction) -> None:
        self.block, self.where, self.reduction = block, where, reduction

    def __call__(self, trace):
        return self.reduction


def drawn_reduction(kind: str, batch: int):
    random = torch.Generator().manual_seed(3)
    if kind == "keep":
        return Keep(torch.stack([torch.randperm(N_PATCH, generator=random)[:7] for _ in range(batch)]), N_PATCH)
    into = torch.stack([torch.randperm(N_PATCH, generator=random) for _ in range(batch)]) % 8  # 7 stands for none
    return Merge(into, torch.rand(batch, N_PATCH, generator=random), 7)


def as_matrix(reduction, image: int) -> torch.Tensor:
    """Write one image's reduction as the (n_out, n_in) matrix that it multiplies patches by."""
    matrix = torch.zeros(reduction.n_out + 1, N_PATCH)
    if isinstance(reduction, Keep):
        for row, position in enumerate(reduction.positions[image].tolist()):
            matrix[row, position] = 1
    else:
        for position in range(N_PATCH):
            matrix[reduction.into[image, position], position] = reduction.shares[image, position]
    return matrix[:-1]


def by_hand(model, image, number, where, matrix):
    """Run one image: sentences and words are lists, reduced by the same matrix at block ``number``."""
    words = model.pixel_embed(image[None], model.pixel_pos)
    sentences = model.norm2_proj(model.proj(model.norm1_proj(words.reshape(1, N_PATCH, -1))))
    tokens = torch.cat([model.cls_token, sentences], dim=1) + model.patch_pos

    def reduce(tokens, words):
        patches = torch.stack([sum(share * p for share, p in zip(row, tokens[0, 1:], strict=True)) for row in matrix])
        of_patches = [sum(share * w for share, w in zip(row, words, strict=True)) for row in matrix]
        return torch.cat([tokens[:, :1], patches[None]], dim=1), torch.stack(of_patches)

    for n, block in enumerate(model.blocks, start=1):
        if n == number and where == "inside":
            _, attended = without_mlp(block)(words, tokens)
            words, _ = block(words, tokens)
            attended, words = reduce(attended, words)
            tokens = attended + block.mlp(block.norm_mlp(attended))
        else:
            words, tokens = block(words, tokens)
            if n == number:
                tokens, words = reduce(tokens, words)
    return model.forward_head(model.norm(tokens))


def without_mlp(block):
    """Run timm's own block up to its outer MLP."""

    def run(words, tokens):
        entered = []
        hook = block.norm_mlp.register_forward_pre_hook(lambda _, x: entered.append(x[0]))
        words, _ = block(words, tokens)
        hook.remove()
        return words, entered[0]

    return run


@pytest.mark.parametrize("where", ["after", "inside"])
@pytest.mark.parametrize("kind", ["keep", "merge"])
@pytest.mark.parametrize("legacy", [False, True])
def test_words_become_what_their_sentence_becomes(where, kind, legacy):
    model, images = tiny_tnt(legacy=legacy), tiny_images(3)
    reduction = drawn_reduction(kind, 3)
    with torch.inference_mode():
        expected = [by_hand(model, images[i], 2, where, as_matrix(reduction, i)) for i in range(3)]
        with pruned(model, RandomDrop(after=(2,), keep_rate=(0.5,))):
            model.blocks[1].stage = Given(2, where, reduction)
            found = model(images)
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-5)


def test_its_attention_in_the_open_is_timms():
    attention, x = tiny_tnt().blocks[0].attn_out, torch.randn(2, 17, 24)
    maps = _look(attention, x, None)
    torch.testing.assert_close(_mix(attention, maps.weights, maps.value), attention(x))
    torch.testing.assert_close(maps.weights.sum(-1), torch.ones(2, 3, 17))
    logits = maps.query @ maps.key.transpose(-2, -1) * attention.scale
    torch.testing.assert_close(maps.weights, logits.softmax(-1))


def test_a_token_that_counts_twice_is_attended_to_as_two_would_be():
    attention, x = tiny_tnt().blocks[0].attn_out, torch.randn(1, 6, 24)
    sizes = torch.tensor([1.0, 1, 2, 1, 1, 1])
    maps = _look(attention, x, sizes.log()[None, None, None])
    weighed = _mix(attention, maps.weights, maps.value)
    repeated = attention(torch.cat([x, x[:, 2:3]], dim=1))[:, :6]
    torch.testing.assert_close(weighed, repeated)


def test_blocks_that_only_follow_weigh_merged_sentences():
    """To the next block a sentence made of two is what that sentence twice would be."""
    model, images = tiny_tnt(), tiny_images(2)
    pairs = torch.arange(N_PATCH).expand(2, -1) // 2
    stage = Given(1, "after", Merge(pairs, torch.full((2, N_PATCH), 0.5), 8))
    stage.counts_sizes = True
    seen = []
    with torch.inference_mode(), pruned(model, RandomDrop(after=(1,), keep_rate=(0.5,))) as pruning:
        model.blocks[0].stage = stage
        second = type(model.blocks[0]).around(model.blocks[1], 2, None, pruning)
        second.attn_out.proj.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        model.blocks[1] = second
        words, tokens = model.blocks[0](*FAMILY.embed(model, images))
        second(words, tokens)
        attention, normed = second.attn_out, second.norm_out(second._with_words(tokens, _inner(second, words)))
        twice = torch.cat([normed, normed[:, 1:]], dim=1)
        attention(twice)
    torch.testing.assert_close(seen[0], seen[1][:, :9])


def _inner(block, words):
    words = words + block.attn_in(block.norm_in(words))
    return words + block.mlp_in(block.norm_mlp_in(words))


@pytest.mark.parametrize("legacy", [False, True])
def test_an_image_keeps_the_same_sentences_alone_and_in_a_batch(legacy):
    model, images = tiny_tnt(legacy=legacy), tiny_images(16)
    with pruned(model, ZeroTPrune(after=(1, 3), keep_rate=(0.8, 0.7), s=2), trace=True) as pruning:
        model(images)
        together = pruning.owners
        for index in (0, 7, 15):
            pruning.owners = {}
            model(images[index : index + 1])
            for block, owners in pruning.owners.items():
                assert torch.equal(owners[0], together[block][index])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({"global_pool": ""}, "it pools with ''"), ({"norm_layer": torch.nn.RMSNorm}, "it normalises with RMSNorm")],
)
def test_details_that_the_closed_form_does_not_count_are_refused(arguments, reason):
    with pytest.raises(UnsupportedModel, match=f"{reason}.*supported is a timm TNT"):
        read_architecture(tiny_tnt(**arguments))


def test_a_pruned_tnt_trains():
    model = tiny_tnt().train()
    with pruned(model, ZeroTPrune(after=(1, 3), keep_rate=(0.7, 0.6), s=2)):
        model(tiny_images()).sum().backward()
    assert model.blocks[3].attn_in.qk.weight.grad.abs().sum() > 0
