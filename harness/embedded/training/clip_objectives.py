"""What the embedded video model learns from a batch of clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.nn.functional import avg_pool2d
from transformers import LlavaNextVideoForConditionalGeneration

from harness.embedded.questions import BEGIN, CELLS, USER
from harness.embedded.scenes import COLOURS, SHAPES
from harness.embedded.training.batches import IGNORED
from harness.embedded.training.clip_batches import TOKENS, ClipBatch, ninths
from harness.embedded.training.guides import NAMING_SCALE
from harness.embedded.training.objectives import (
    END_WEIGHT,
    Outcome,
    normalised,
    share,
    tower_of,
)
from harness.embedded.training.turns import Look, turns_mask
from harness.embedded.video.architecture import POOL
from harness.embedded.video.clips import GRID
from harness.embedded.video.questions import TASKS, WORDS

POINTERS = ((4, 0), (12, 0), (12, 1), (16, 0))
"""Decoder layers and heads that look at what `ClipBatch.looks` says, one each."""


def frame_features(tower: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Hidden states of layer -2 without CLS, pooled: [frames, 64, width]."""
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        out = layer(hidden, None)
        hidden = out[0] if isinstance(out, tuple) else out
    maps = hidden[:, 1:].unflatten(1, (GRID, GRID)).permute(0, 3, 1, 2)
    return avg_pool2d(maps, POOL).flatten(2).transpose(1, 2)


def clip_outcome(
    model: LlavaNextVideoForConditionalGeneration,
    batch: ClipBatch,
    device: torch.device,
    *,
    naming: float = 0.0,
    pointing: float = 0.0,
) -> Outcome:
    """Next-token loss on the answers, in the order of LLaVA's prompt: <s> USER: video text.

    Every turn sees the video and itself and stands right after the video. The tower stays as it
    is. `naming` and `pointing` are weights of `naming_loss` and `pointing_loss`.
    """
    pixels = torch.from_numpy(batch.pixels).to(device)
    with torch.no_grad():
        frames = normalised(pixels.flatten(0, 1))
        features = frame_features(tower_of(model), frames).unflatten(0, pixels.shape[:2])
    visual = model.model.multi_modal_projector(features.flatten(1, 2))
    shown = torch.from_numpy(batch.shown).to(device)
    seen = visual.take_along_dim(shown[..., None], 1)
    decoder, ids = model.model.language_model, torch.from_numpy(batch.ids).to(device)
    start = torch.tensor([[BEGIN, USER]], device=device).expand(len(ids), -1)
    text = decoder.embed_tokens(ids)
    sequence = torch.cat([decoder.embed_tokens(start), seen.to(text.dtype), text], 1)
    shared = sequence.shape[1] - ids.shape[1]
    places = torch.from_numpy(batch.places).to(device) + start.shape[1] + visual.shape[1]
    before = torch.arange(start.shape[1], device=device).expand(len(ids), -1)
    turns = torch.from_numpy(batch.turns).to(device)
    looks: list[Look] = []
    out = decoder(
        inputs_embeds=sequence,
        position_ids=torch.cat([before, start.shape[1] + shown, places], 1),
        attention_mask=turns_mask(turns, torch.ones_like(turns), start.shape[1], seen.shape[1]),
        use_cache=False,
        looks=looks if pointing else None,
        pointers=POINTERS,
    ).last_hidden_state[:, shared:]
    targets = torch.from_numpy(batch.targets).to(device)
    scored = targets != IGNORED
    logits, truth = model.lm_head(out[scored]).float(), targets[scored]
    tasks = torch.from_numpy(batch.tasks).to(device)[scored]
    hit = logits.argmax(-1) == truth
    right = {
        name: share(hit, tasks == i) for i, name in enumerate(TASKS) if bool((tasks == i).any())
    }
    weight = torch.where(tasks < 0, END_WEIGHT, 1.0)
    each = functional.cross_entropy(logits, truth, reduction="none")
    loss = (each * weight).sum() / weight.sum()
    if naming:
        named = naming_loss(visual, model.lm_head.weight, batch, device)
        loss = loss + naming * named
    if pointing:
        pointed, hits = pointing_loss(looks, batch, device)
        loss = loss + pointing * pointed
        right.update(hits)
    return Outcome(loss, right)


def naming_loss(
    visual: torch.Tensor, words: torch.Tensor, batch: ClipBatch, device: torch.device
) -> torch.Tensor:
    """Makes projected tokens [B, F * 64, width] name what they show in the decoder's own words, as
    `guides.naming_loss` does for patches.
    """
    direction = functional.normalize(visual.float(), dim=-1) * NAMING_SCALE
    words = functional.normalize(words.float(), dim=-1)
    labels = torch.from_numpy(batch.labels).to(device).long()
    there = labels[..., 0] > 0
    cells = torch.from_numpy(ninths()).to(device).repeat(labels.shape[1] // TOKENS**2) + 1
    chosen: tuple[tuple[Sequence[str], torch.Tensor], ...] = (
        (SHAPES, labels[..., 1]),
        (COLOURS, labels[..., 2]),
        ([cell for row in CELLS for cell in row], cells.expand_as(there)),
    )
    losses = []
    for names, truth in chosen:
        among = words[[WORDS.index(word) for word in names]]
        losses.append(functional.cross_entropy(direction[there] @ among.T, truth[there] - 1))
    return torch.stack(losses).mean()


def pointing_loss(
    looks: Sequence[Look], batch: ClipBatch, device: torch.device
) -> tuple[torch.Tensor, dict[str, float]]:
    """Heads are to look at the tokens that the answer depends on, one head a column of `looks`.

    Also the attention that they give them, for the log.
    """
    shown = torch.from_numpy(batch.shown).to(device)
    tracks = torch.from_numpy(batch.labels[..., 0]).to(device).long().take_along_dim(shown, 1)
    frames = shown // TOKENS**2
    losses, given = [], {}
    for number, look in enumerate(looks):
        track, frame = torch.from_numpy(batch.looks[:, :, number]).to(device).unbind(-1)
        wanted = (tracks[:, None] == track[..., None]) & (track[..., None] > 0)
        wanted &= (frame[..., None] < 0) | (frames[:, None] == frame[..., None])
        clip, place = wanted.any(-1).nonzero(as_tuple=True)
        scores = (look.queries[clip, place, None] * look.keys[clip]).float().sum(-1)
        scores = (look.scaling * scores).masked_fill(~look.mask[clip, place], -math.inf)
        start = scores.shape[1] - batch.ids.shape[1] - shown.shape[1]
        visual = scores.log_softmax(-1)[:, start : start + shown.shape[1]]
        inside = visual.masked_fill(~wanted[clip, place], -math.inf).logsumexp(-1)
        losses.append(-inside.mean())
        given[f"look {number}"] = float(inside.detach().exp().mean())
    return torch.stack(losses).mean(), given
