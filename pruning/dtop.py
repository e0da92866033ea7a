"""DToP at work: blocks run on the tokens that are not finished, images with different numbers of them in one row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pruning.segmentation.heads import HeadOutput, SegmentationHead
from pruning.segmentation.packing import PackedTokens
from pruning.segmentation.segmenter import Segmenter
from spaces.dtop import DToP
from spaces.layered import per_layer

__all__ = ["EarlyExit", "Exits", "Word", "surest"]

NO_PLACE = -1  # of a token that stands for no patch: the class token, a mean


@dataclass(frozen=True)
class Exits:
    """What became of a batch's tokens.

    Attributes:
        n_kept: (batch, graded stages), tokens that went on behind each head that grades, prefix not counted.
        stage: (batch, n_patch), the head whose word on each patch was the last, counted from 0; as many as graded
            for the model's last head.
    """

    n_kept: Tensor
    stage: Tensor


@dataclass(frozen=True)
class Word:
    """What heads say of a batch together.

    Attributes:
        scores: (batch, n_patch, class), what is upsampled and compared between classes.
        masks: (batch, n_patch, class), what each patch's last head wrote of it, before any softmax or sigmoid.
        classes: (batch, class), how probable the last of them finds each class; ``None`` of heads that do not say.
    """

    scores: Tensor
    masks: Tensor
    classes: Tensor | None


@dataclass
class EarlyExit:
    """Runs a segmenter's blocks and heads so that finished tokens are not computed.

    Attributes:
        config: the layout.
        exits: what became of the last batch's tokens.
    """

    config: DToP
    exits: Exits | None = field(default=None, init=False)

    def __call__(self, model: Segmenter, tokens: Tensor) -> Tensor:
        """Take the (batch, n_token, dim) that enter the first block to (batch, n_patch, class) scores."""
        *_, board = self._stages(model, tokens)
        return board.word(model, self.config.merge).scores

    def words(self, model: Segmenter, tokens: Tensor) -> list[Word]:
        """Give, for each head that ran, what all heads up to it say together; the last is the result.

        A head hears only of the tokens that were not finished before it.
        """
        return [board.word(model, self.config.merge) for board in self._stages(model, tokens)]

    def _stages(self, model: Segmenter, tokens: Tensor) -> Iterator[_Board]:
        """Run stage after stage, and give the board when the head at its end has spoken."""
        board = _Board(model, tokens)
        n_kept: list[Tensor] = []
        done = 0
        for number, after in enumerate(self.config.after):
            board.tokens, done = model.run_blocks(board.tokens, done, after), after
            said = board.hear(model, number, after)
            yield board
            confidence, winner = board.graded(model.head(after), said)
            board.leave(self._finished(board, number, confidence, winner), winner, self.config.rule)
            n_kept.append(board.n_running())
        last = model.after[-1]
        board.tokens = model.run_blocks(board.tokens, done, last)
        board.hear(model, len(n_kept), last)
        graded = torch.stack(n_kept, dim=1) if n_kept else torch.empty(len(tokens), 0, dtype=torch.int64)
        self.exits = Exits(graded, board.stage.view(len(tokens), -1))
        yield board

    def _finished(self, board: _Board, number: int, confidence: Tensor, winner: Tensor) -> Tensor:
        """Say of each token of the row whether it is finished behind a head."""
        has_place = board.place >= 0
        if self.config.rule == "fixed_ratio":
            n_placed = torch.bincount(board.image[has_place], minlength=board.n_images)
            # In double precision, as int() of Python floats does it in the closed form.
            n_finished = (n_placed.double() * self.config.ratio).long()
            return surest(confidence, board.image, n_finished[board.image], has_place)
        easy = has_place & (confidence > per_layer(self.config.p0, number))
        if self.config.rule != "topk" or self.config.k == 0:
            return easy
        group = board.image * board.n_classes + winner
        return easy & ~surest(confidence, group, torch.full_like(group, self.config.k), easy)


class _Board:
    """The row of tokens that still run, and the canvas on which heads write what they say of each patch."""

    def __init__(self, model: Segmenter, tokens: Tensor) -> None:
        n_images, n_token, _ = tokens.shape
        n_prefix: int = model.encoder.num_prefix_tokens
        n_patch = n_token - n_prefix
        self.n_images, self.n_classes, self.n_prefix = n_images, model.num_classes, n_prefix
        self.tokens = PackedTokens.of(tokens)
        self.image = torch.arange(n_images, device=tokens.device).repeat_interleave(n_token)
        place = torch.full((n_images, n_token), NO_PLACE, device=tokens.device)
        place[:, n_prefix:] = torch.arange(n_images * n_patch, device=tokens.device).view(n_images, n_patch)
        self.place = place.flatten()
        # Where in its image: the prefix first. A mean behind the patches is no prefix, and heads look at it.
        self.is_prefix = torch.arange(n_token, device=tokens.device).repeat(n_images) < n_prefix
        self.canvas = torch.empty(0)
        self.stage = torch.zeros(n_images * n_patch, dtype=torch.int64, device=tokens.device)
        self.image_of_patch = torch.arange(n_images, device=tokens.device).repeat_interleave(n_patch)
        self.classes: list[Tensor] = []

    def hear(self, model: Segmenter, number: int, after: int) -> Tensor:
        """Let a head speak of the row, and write down what it says of each patch.

        Returns:
            Its masks, (n_token but for the prefixes, class).
        """
        head = model.head(after)
        seen = ~self.is_prefix
        tokens = model.normed(after, self.tokens)
        lengths = tuple(length - self.n_prefix for length in tokens.lengths)
        values = tokens.values[seen] if self.n_prefix else tokens.values
        with torch.autocast(values.device.type, enabled=False):  # half precision would move tokens over p0
            said: HeadOutput = head(PackedTokens(values.float(), lengths))
        if said.classes is not None:
            self.classes.append(self._carried(said.classes, lengths))
        place = self.place[seen]
        if number == 0:
            self.canvas = said.masks.new_zeros(len(self.stage), self.n_classes)
        written = place >= 0
        self.canvas = self.canvas.index_put((place[written],), said.masks[written])
        self.stage[place[written]] = number
        return said.masks

    def graded(self, head: SegmentationHead, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Say for each token of the row how sure the head is, and of which class; nothing of the prefix, 0."""
        seen = ~self.is_prefix
        classes = self.classes[-1][self.image[seen]] if self.classes else None
        best = head.probabilities(masks, classes).detach().max(dim=-1)
        confidence = best.values.new_zeros(len(self.place))
        winner = torch.zeros_like(self.place)
        confidence[seen], winner[seen] = best.values, best.indices
        return confidence, winner

    def word(self, model: Segmenter, merge: str) -> Word:
        """Give what the heads say together by now."""
        classes = None
        if self.classes:
            by_stage = torch.stack(self.classes)  # (stage, batch, class)
            stage = self.stage if merge == "exit_stage" else torch.full_like(self.stage, len(self.classes) - 1)
            classes = by_stage[stage, self.image_of_patch]
        scores = model.head(model.after[-1]).scores(self.canvas, classes)
        scores, masks = (each.view(self.n_images, -1, self.n_classes) for each in (scores, self.canvas))
        return Word(scores, masks, self.classes[-1] if self.classes else None)

    def leave(self, finished: Tensor, winner: Tensor, rule: str) -> None:
        """Take the finished tokens out of the row; with ``average`` their mean stays, one for each class."""
        if not finished.any():
            return
        means = self._means(finished, winner) if rule == "average" else None
        values, image, place = (each[~finished] for each in (self.tokens.values, self.image, self.place))
        is_prefix = self.is_prefix[~finished]
        if means is not None:
            mean_values, mean_image = means
            values, image = torch.cat([values, mean_values]), torch.cat([image, mean_image])
            place = torch.cat([place, torch.full_like(mean_image, NO_PLACE)])
            is_prefix = torch.cat([is_prefix, torch.zeros_like(mean_image, dtype=torch.bool)])
            order = image.argsort(stable=True)
            values, image, place, is_prefix = (each[order] for each in (values, image, place, is_prefix))
        lengths = tuple(torch.bincount(image, minlength=self.n_images).tolist())
        self.tokens, self.image, self.place, self.is_prefix = PackedTokens(values, lengths), image, place, is_prefix

    def n_running(self) -> Tensor:
        """Count each image's tokens that still run, but for its prefix: (batch,)."""
        return torch.tensor(self.tokens.lengths, device=self.image.device) - self.n_prefix

    def _means(self, finished: Tensor, winner: Tensor) -> tuple[Tensor, Tensor]:
        """Average the finished tokens of each image and class: (n_mean, dim) values and (n_mean,) images."""
        group = (self.image * self.n_classes + winner)[finished]
        groups, member = torch.unique(group, return_inverse=True)
        values = self.tokens.values[finished]
        sums = values.new_zeros(len(groups), values.shape[1]).index_add(0, member, values)
        return sums / torch.bincount(member)[:, None], groups // self.n_classes

    def _carried(self, classes: Tensor, lengths: Sequence[int]) -> Tensor:
        """Let an image of which nothing is left keep what the head before said it shows."""
        if not self.classes or all(lengths):
            return classes
        is_empty = torch.tensor([length == 0 for length in lengths], device=classes.device)
        return torch.where(is_empty[:, None], self.classes[-1], classes)


def surest(confidence: Tensor, group: Tensor, n_taken: Tensor, eligible: Tensor) -> Tensor:
    """Take the most confident tokens of each group.

    >>> confidence, group = torch.tensor([0.7, 0.9, 0.8, 0.6]), torch.tensor([0, 0, 0, 1])
    >>> surest(confidence, group, torch.full((4,), 2), torch.ones(4, dtype=torch.bool)).tolist()
    [False, True, True, True]

    Args:
        confidence: (n_token,).
        group: (n_token,), which group each belongs to.
        n_taken: (n_token,), how many to take of each token's group; all, if they are fewer.
        eligible: (n_token,), which may be taken.

    Returns:
        (n_token,), whether each is taken. Of equals the first are.
    """
    candidates = eligible.nonzero()[:, 0]
    order = confidence[candidates].argsort(descending=True, stable=True)
    candidates = candidates[order[group[candidates[order]].argsort(stable=True)]]
    _, n_members = torch.unique_consecutive(group[candidates], return_counts=True)
    starts = n_members.cumsum(0) - n_members
    rank = torch.arange(len(candidates), device=group.device) - starts.repeat_interleave(n_members)
    taken = torch.zeros_like(eligible)
    taken[candidates] = rank < n_taken[candidates]
    return taken
