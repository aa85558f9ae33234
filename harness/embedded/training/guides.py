"""Losses that guide a decoder to what it would find late or not at all by answers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from harness.embedded.questions import CELLS, WORDS
from harness.embedded.scenes import COLOURS, GRID, PATCH, SHAPES
from harness.embedded.training.batches import IGNORED, Batch
from harness.embedded.training.turns import Look

NAMED = ("shape", "colour", "digit", "place", "centre")
"""What `naming_loss` can make patches name."""
NAMING_SCALE = 16.0
CENTRE_WEIGHT = 8.0
"""A centre is one patch among many."""


def naming_loss(
    visual: torch.Tensor,
    words: torch.Tensor,
    batch: Batch,
    device: torch.device,
    named: Sequence[str] = NAMED,
) -> torch.Tensor:
    """Makes projected patches [B, P, width] name what they show in the decoder's own words.

    A patch of a red circle comes near the embeddings [vocabulary, width] of "red", "circle", its
    digit and its ninth of the image (`place`), and an object's centre near "object", each where
    `named` has it. So the words of a question match what they are about from the start, without
    which decoders stay for long at guessing among what the image shows. Only directions count:
    would lengths, patches grew so long that no layer could add much to them.
    """
    direction = functional.normalize(visual.float(), dim=-1) * NAMING_SCALE
    words = functional.normalize(words.float(), dim=-1)
    labels = torch.from_numpy(batch.labels).to(device).long()
    corners, grid = torch.from_numpy(batch.corners).to(device), batch.pixels.shape[1] // PATCH
    line = torch.arange(grid, device=device)
    rows, columns = ((corners[:, i, None] + line) * len(CELLS) // GRID for i in (0, 1))
    cells = (rows[:, :, None] * len(CELLS) + columns[:, None, :]).flatten(1) + 1
    cells = torch.where(labels[..., 0] > 0, cells, 0)
    chosen = {
        "shape": (SHAPES, labels[..., 0]),
        "colour": (COLOURS, labels[..., 1]),
        "digit": ([str(digit) for digit in range(10)], labels[..., 2]),
        "place": ([cell for row in CELLS for cell in row], cells),
    }
    losses = []
    for name, (names, truth) in chosen.items():
        if name not in named:
            continue
        among = words[[WORDS.index(word) for word in names]]
        there = truth > 0
        logits = direction[there] @ among.T
        # a sum over a count that may be 0: a batch without digits has no digits to name
        total = functional.cross_entropy(logits, truth[there] - 1, reduction="sum")
        losses.append(total / there.sum().clamp(min=1))
    if "centre" in named:
        centre, truth = direction @ words[WORDS.index("object")], labels[..., 3].float()
        scale = torch.tensor(CENTRE_WEIGHT, device=device)
        losses.append(functional.binary_cross_entropy_with_logits(centre, truth, pos_weight=scale))
    return torch.stack(losses).mean()


def pointing_loss(looks: Sequence[Look], batch: Batch, device: torch.device) -> torch.Tensor:
    """Once a question has named its objects, heads are to look at their patches.

    Left to itself a decoder finds objects by their colours and stays for long at guessing among
    objects of one colour. What is not in the image, or not seen, is not looked for.
    """
    shapes, colours, sighted = (
        torch.from_numpy(values).to(device)[:, :, None]
        for values in (batch.shapes, batch.colours, batch.sighted)
    )
    shown = torch.from_numpy(batch.shown).to(device)
    labels = torch.from_numpy(batch.labels).to(device).long()
    labels = labels.take_along_dim(shown[..., None], 1)[:, None]
    wanted = (labels[..., 0] > 0) & (sighted > 0) & (shapes != IGNORED)
    wanted &= (shapes == 0) | (shapes == labels[..., 0])
    wanted &= (colours == 0) | (colours == labels[..., 1])
    image, place = wanted.any(-1).nonzero(as_tuple=True)
    losses = []
    for look in looks:
        scores = (look.queries[image, place, None] * look.keys[image]).float().sum(-1)
        scores = (look.scaling * scores).masked_fill(~look.mask[image, place], -math.inf)
        start = scores.shape[1] - batch.ids.shape[1] - shown.shape[1]
        visual = scores.log_softmax(-1)[:, start : start + shown.shape[1]]
        inside = visual.masked_fill(~wanted[image, place], -math.inf)
        losses.append(-inside.logsumexp(-1).mean())
    return torch.stack(losses).mean()
