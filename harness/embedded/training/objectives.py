"""What the embedded model learns from a batch: losses of the tower and of the whole model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from harness.embedded.questions import BEGIN, TASKS, USER
from harness.embedded.scenes import COLOURS, GRID, PATCH, SHAPES
from harness.embedded.training.batches import IGNORED, LISTED, Batch
from harness.embedded.training.guides import CENTRE_WEIGHT, naming_loss, pointing_loss
from harness.embedded.training.turns import Look, turns_mask

BACKGROUND_WEIGHT = 0.15
"""Most patches show background; weighted down they do not drown the objects."""
DIGIT_WEIGHT = 2.0
LISTING_WEIGHT, END_WEIGHT = 0.5, 0.1
"""Beside the one word of an answer a listing has many words, and the end of a turn is no secret."""


@dataclass(frozen=True)
class Outcome:
    """A step's loss (a scalar tensor) and the share of right answers by name."""

    loss: torch.Tensor
    right: dict[str, float]


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """Loss and accuracies of several parts; a part without a task does not count for it."""
    right = {}
    for name in dict.fromkeys(name for outcome in outcomes for name in outcome.right):
        shares = [v for o in outcomes if not math.isnan(v := o.right.get(name, math.nan))]
        right[name] = sum(shares) / len(shares) if shares else math.nan
    return Outcome(torch.stack([outcome.loss for outcome in outcomes]).mean(), right)


class TowerHeads(nn.Module):
    """Linear heads on the tower's features; they serve its training and are not shipped.

    Row and column are classes of their own: without them (or as a regression) the features do not
    say where they are, and a decoder cannot learn positions from them. Centres are what makes
    counting possible.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.colour = nn.Linear(width, len(COLOURS) + 1)
        self.digit = nn.Linear(width, 11)
        self.centre = nn.Linear(width, 1)
        self.row = nn.Linear(width, GRID)
        self.column = nn.Linear(width, GRID)
        self.presence = nn.Linear(width, 40)


def tower_of(model: Any) -> Any:
    """The CLIP transformer, which some transformers versions wrap once more."""
    tower = model.model.vision_tower
    return getattr(tower, "vision_model", tower)


def pixel_values(batch: Batch, device: torch.device) -> torch.Tensor:
    """float32 [B, 3, side, side], normalised as the processor does it."""
    return normalised(torch.from_numpy(batch.pixels).to(device))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [B, side, side, 3] to float32 [B, 3, side, side]."""
    mean, std = (
        torch.tensor(v, device=pixels.device).view(1, 3, 1, 1)
        for v in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
    )
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


def tower_features(tower: Any, batch: Batch, device: torch.device) -> torch.Tensor:
    """Hidden states of layer -2, [B, 1 + grid * grid, width], CLS first.

    A window takes the position embeddings of the patches it covers, so that what it teaches holds
    in whole images.
    """
    pixels, corners = pixel_values(batch, device), torch.from_numpy(batch.corners).to(device)
    embeddings, line = tower.embeddings, torch.arange(pixels.shape[-1] // PATCH, device=device)
    rows, columns = corners[:, 0, None, None], corners[:, 1, None, None]
    places = ((rows + line[None, :, None]) * GRID + columns + line).flatten(1)
    position = embeddings.position_embedding.weight
    patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
    cls = (embeddings.class_embedding + position[0]).expand(len(pixels), 1, -1)
    hidden = tower.pre_layrnorm(torch.cat([cls, patches + position[places + 1]], 1))
    for layer in tower.encoder.layers[:-1]:
        out = layer(hidden, None)
        hidden = out[0] if isinstance(out, tuple) else out
    return hidden


def tower_outcome(
    model: LlavaForConditionalGeneration, heads: TowerHeads, batch: Batch, device: torch.device
) -> Outcome:
    """What each patch shows and where it is; CLS: which pairs and digits the image has."""
    hidden = tower_features(tower_of(model), batch, device)
    patches, labels = hidden[:, 1:], torch.from_numpy(batch.labels).to(device).long()
    weight = torch.where(labels[..., 0] > 0, 1.0, BACKGROUND_WEIGHT).flatten()
    losses, right = [], {}
    for name, number, factor in (("shape", 0, 1.0), ("colour", 1, 1.0), ("digit", 2, 1.5)):
        logits = getattr(heads, name)(patches).float().flatten(0, 1)
        truth = labels[..., number].flatten()
        emphasis = DIGIT_WEIGHT if name == "digit" else 1.0
        weights = weight * torch.where(truth > 0, emphasis, 1.0)
        each = functional.cross_entropy(logits, truth, reduction="none")
        losses.append(factor * (each * weights).sum() / weights.sum())
        right[name] = share(logits.argmax(-1) == truth, truth > 0)
    centre, truth = heads.centre(patches).float()[..., 0], labels[..., 3].float()
    scale = torch.tensor(CENTRE_WEIGHT, device=device)
    losses.append(functional.binary_cross_entropy_with_logits(centre, truth, pos_weight=scale))
    right["centre"] = share(centre > 0, truth > 0)
    grid, corners = batch.pixels.shape[1] // PATCH, torch.from_numpy(batch.corners).to(device)
    line = torch.arange(grid, device=device)
    rows = (corners[:, 0, None, None] + line[:, None]).expand(-1, grid, grid).flatten()
    columns = (corners[:, 1, None, None] + line).expand(-1, grid, grid).flatten()
    for name, truth in (("row", rows), ("column", columns)):
        logits = getattr(heads, name)(patches).float().flatten(0, 1)
        losses.append(functional.cross_entropy(logits, truth))
        right[name] = share(logits.argmax(-1) == truth)
    seen, truth = heads.presence(hidden[:, 0]).float(), torch.from_numpy(batch.presence).to(device)
    losses.append(2 * functional.binary_cross_entropy_with_logits(seen, truth))
    right["presence"] = share(seen > 0, truth > 0)
    return Outcome(torch.stack(losses).sum(), right)


def answer_outcome(
    model: LlavaForConditionalGeneration,
    batch: Batch,
    device: torch.device,
    *,
    frozen_tower: bool = False,
    naming: Sequence[str] = (),
    pointing: float = 0.0,
) -> Outcome:
    """Next-token loss on the answers, in the order of LLaVA's prompt: <s> USER: image text.

    Every turn sees the image and itself and stands right after the image, or, if it is asked
    without one, sees itself alone and stands where the image would: many questions share the work
    of one image, and each is learnt exactly as it will be asked, alone. `naming` and the weight
    `pointing` add `naming_loss` and `pointing_loss`.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen_tower):
        features = tower_features(tower_of(model), batch, device)[:, 1:]
    visual = model.model.multi_modal_projector(features)
    shown = torch.from_numpy(batch.shown).to(device)
    seen = visual.take_along_dim(shown[..., None], 1)
    decoder, ids = model.model.language_model, torch.from_numpy(batch.ids).to(device)
    start = torch.tensor([[BEGIN, USER]], device=device).expand(len(ids), -1)
    text = decoder.embed_tokens(ids)
    sequence = torch.cat([decoder.embed_tokens(start), seen.to(text.dtype), text], 1)
    shared = sequence.shape[1] - ids.shape[1]
    sighted = torch.from_numpy(batch.sighted).to(device)
    places = torch.from_numpy(batch.places).to(device) + start.shape[1]
    places = places + sighted * visual.shape[1]
    before = torch.arange(start.shape[1], device=device).expand(len(ids), -1)
    looks: list[Look] = []
    out = decoder(
        inputs_embeds=sequence,
        position_ids=torch.cat([before, start.shape[1] + shown, places], 1),
        attention_mask=turns_mask(
            torch.from_numpy(batch.turns).to(device), sighted, start.shape[1], seen.shape[1]
        ),
        use_cache=False,
        looks=looks if pointing else None,
    ).last_hidden_state[:, shared:]
    targets = torch.from_numpy(batch.targets).to(device)
    scored = targets != IGNORED
    logits, truth = model.lm_head(out[scored]).float(), targets[scored]
    tasks = torch.from_numpy(batch.tasks).to(device)[scored]
    hit = logits.argmax(-1) == truth
    names = {**dict(enumerate(TASKS)), LISTED: "listing"}
    right = {n: share(hit, tasks == i) for i, n in names.items() if bool((tasks == i).any())}
    weight = torch.ones_like(tasks, dtype=torch.float32)
    weight[tasks == LISTED], weight[tasks < 0] = LISTING_WEIGHT, END_WEIGHT
    each = functional.cross_entropy(logits, truth, reduction="none")
    loss = (each * weight).sum() / weight.sum()
    if naming:
        loss = loss + naming_loss(visual, model.lm_head.weight, batch, device, naming)
    if pointing:
        loss = loss + pointing * pointing_loss(looks, batch, device)
    return Outcome(loss, right)


def share(hit: torch.Tensor, among: torch.Tensor | None = None) -> float:
    """Of those that are right, among all or some; NaN among none."""
    chosen = hit if among is None else hit[among]
    return float(chosen.float().mean()) if chosen.numel() else float("nan")
