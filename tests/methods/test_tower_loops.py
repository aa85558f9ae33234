"""Stages inside the vision tower, against loops."""

from __future__ import annotations

from math import log, sqrt

import pytest
import torch
from small_models import IMAGE, small_llava

from methods import Budget, PruningError, attach, get_method

LAYERS = 6


def layer_parts(model, layer, rows):
    """States after a layer's attention [n, D], weights [H, n, n], keys and values [H, n, d]."""
    attention = layer.self_attn
    inner = layer.layer_norm1(rows)
    q, k, v = (
        projection(inner).unflatten(-1, (4, -1)).transpose(0, 1)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    weights = (q @ k.transpose(1, 2) * attention.head_dim**-0.5).softmax(-1)
    mixed = (weights @ v).transpose(0, 1).flatten(1)
    return rows + attention.out_proj(mixed), weights, k, v


def into_mlp(layer, rows):
    return rows + layer.mlp(layer.layer_norm2(rows))


def flowcut_by_loops(model, rows, budget):
    """Patches of one image that are left, and the rows that each layer got."""
    kept, running, seen = list(range(64)), {}, []
    for i, layer in enumerate(model.model.vision_tower.encoder.layers):
        seen.append(len(rows))
        rows, weights, _, values = layer_parts(model, layer, rows)
        rows = into_mlp(layer, rows)
        if i > LAYERS - 2 or len(rows) <= budget + 1:
            continue
        c = [float(weights[:, 0, j + 1].mean()) for j in range(len(kept))]
        alike = (values[:, :1] @ values.transpose(1, 2)).softmax(-1)[:, 0]
        e = [float(alike[:, j + 1].mean()) for j in range(len(kept))]
        size = [float(values[:, j + 1].mean(0).abs().sum()) for j in range(len(kept))]
        for j, patch in enumerate(kept):
            score = (c[j] / sum(c) + e[j] / sum(e)) * size[j]
            running[patch] = (running[patch] + score) / 2 if patch in running else score
        left, n = (LAYERS - 2) - i - 1, len(kept)
        if left % 2:
            continue
        stay = budget
        if left:
            evenness = -sum(x / sum(c) * log(x / sum(c)) for x in c if x) / log(n)
            stay = max(n - round((n - budget) / sqrt(left) * (1 - evenness**2)), budget)
        best = sorted(sorted(kept, key=lambda patch: -running[patch])[:stay])
        rows = torch.cat([rows[:1], rows[[kept.index(patch) + 1 for patch in best]]])
        kept = best
    return kept, seen


def tome_by_loops(model, rows, merges):
    """Features without CLS."""
    for layer, r in zip(model.model.vision_tower.encoder.layers, merges, strict=False):
        rows, _, keys, _ = layer_parts(model, layer, rows)
        if not r:
            rows = into_mlp(layer, rows)
            continue
        metric = torch.nn.functional.normalize(keys.mean(0), dim=-1)
        pairs = []
        for source in range(2, len(rows), 2):
            likeness = [float(metric[source] @ metric[other]) for other in range(1, len(rows), 2)]
            pairs.append((-max(likeness), source, 2 * likeness.index(max(likeness)) + 1))
        joined = {source: to for _, source, to in sorted(pairs)[:r]}
        stayed = [rows[i] for i in range(0, len(rows), 2) if i not in joined]
        taken = [
            torch.stack([rows[i], *(rows[s] for s, to in joined.items() if to == i)]).mean(0)
            for i in range(1, len(rows), 2)
        ]
        rows = into_mlp(layer, torch.stack(stayed + taken))
    return rows[1:]


@pytest.fixture(scope="module")
def clip():
    return small_llava(tower_layers=LAYERS)


def rows_at_the_start(model, pixels):
    tower = model.model.vision_tower
    return tower.pre_layrnorm(tower.embeddings(pixels[None]))[0]


@torch.no_grad()
@pytest.mark.parametrize("budget", [1, 7, 20, 33, 63])
def test_flowcut_is_what_loops_find(clip, budget):
    pixels = torch.randn(6, 3, 56, 56, generator=torch.Generator().manual_seed(budget))
    ids = torch.tensor([[1, *[IMAGE] * 64, 5]] * 6)
    with attach(clip, get_method("flowcut"), Budget(budget)) as trace:
        clip(input_ids=ids, pixel_values=pixels)
    prefill, different = trace.prefills[-1], set()
    for image in range(6):
        kept, seen = flowcut_by_loops(clip, rows_at_the_start(clip, pixels[image]), budget)
        assert (prefill.selections[0].cut.anchors[image] - 1).tolist() == kept
        assert [attention for attention, _ in prefill.tower_rows[image][0]] == seen
        different.add(tuple(seen))
    assert len(different) > 1 or budget == 63


@torch.no_grad()
@pytest.mark.parametrize("budget", [14, 20, 33, 63])
def test_tome_is_what_loops_find(clip, budget):
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(budget))
    ids, projected = torch.tensor([[1, *[IMAGE] * 64, 5]] * 2), []
    handle = clip.model.multi_modal_projector.register_forward_pre_hook(
        lambda _, args: projected.append(args[0])
    )
    with attach(clip, get_method("tome"), Budget(budget)) as trace:
        clip(input_ids=ids, pixel_values=pixels)
    handle.remove()
    prefill = trace.prefills[-1]
    (merges,) = prefill.plans[0].parameters["r"]
    assert max(merges) - min(merges) <= 1
    assert sum(merges) == 64 - budget
    for image in range(2):
        expected = tome_by_loops(clip, rows_at_the_start(clip, pixels[image]), merges)
        torch.testing.assert_close(projected[0][image], expected, atol=1e-4, rtol=1e-4)
    groups = prefill.selections[0].cut.groups
    assert (groups[:, 0] == -1).all()
    assert (groups[:, 1:].sort(1).values.unique() == torch.arange(budget)).all()


def test_tome_meets_its_ends_on_llava():
    from methods.interface import Segment, Sizes

    llava = Sizes(32, (Segment(24, 24),))
    assert get_method("tome").feasible(llava) == (24, 576)
    assert get_method("flowcut").feasible(llava) == (1, 576)
    assert get_method("tome", schedule="published").plan(Budget(64), llava).entering == (208,) * 32
    assert get_method("tome", r="22").feasible(llava) == (70, 70)
    for r in ("16+", "a", "-1", "1.5"):
        with pytest.raises(PruningError, match="tome: r is a whole number or several"):
            get_method("tome", r=r)
