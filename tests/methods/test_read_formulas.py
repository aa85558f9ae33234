"""Formulas of the methods with reads of their own, against the same written down with loops."""

from __future__ import annotations

import random

import pytest
import torch

from baselines.dart import order_of_set, unlike
from baselines.fitprune import attended, printed
from baselines.hiprune import hierarchy
from baselines.prumerge import best_and_grid, grid_step, merged
from baselines.vscan import halves, scanned, windows_of
from methods.interface import Cut, Part
from methods.merging import averaged
from methods.tensors import apply_cut, attention_without_rope


def test_the_order_of_a_set_is_pythons():
    draw = random.Random(5)
    for text in (0, 1, 3, 4):
        rows = [draw.sample(range(draw.choice([40, 700, 4000, 2**20])), 8) for _ in range(500)]
        places = torch.tensor(rows)
        present = (torch.arange(8) < 4 + text).expand_as(places)
        found = places.gather(1, order_of_set(places, present))[:, : 4 + text].tolist()
        assert found == [list(set(row[: 4 + text])) for row in rows]


def test_prompts_with_less_text_do_not_change_the_others_order():
    row = [9, 1, 17, 25, 33, 41, 2, 3]
    places = torch.tensor([row] * 2)
    present = torch.tensor([[True] * 8, [True] * 4 + [False] * 4])
    both = order_of_set(places, present)
    assert places[0][both[0]].tolist() == list(set(row))
    assert places[1][both[1]][:4].tolist() == list(set(row[:4]))


@pytest.mark.parametrize("text", [0, 2, 4])
@pytest.mark.parametrize("tokens", [4, 9, 31, 60])
def test_what_is_unlike_the_pivots(text, tokens):
    similarity = (torch.randn(1, 8, 60, generator=torch.manual_seed(text)) * 4).round()
    pivots = torch.tensor([[3, 50, 7, 8]])
    present = torch.arange(8)[None] < 4 + text
    kept, pool = [3, 50, 7, 8], sorted(set(range(60)) - {3, 50, 7, 8})
    each, more = divmod(tokens - 4, 4 + text)
    for i in range(4 + text):
        taken = sorted(pool, key=lambda j: (similarity[0, i, j], j))[: each + (i < more)]
        kept += taken
        pool = [j for j in pool if j not in taken]
    assert unlike(similarity, pivots, present, tokens)[0].tolist() == sorted(kept)


@pytest.mark.parametrize("tokens", [1, 25, 26, 75, 192, 400])
def test_anchors_buffers_and_registers(tokens):
    draw = torch.manual_seed(tokens)
    objects, registers = (torch.rand(1, 576, generator=draw) for _ in range(2))
    objects[0, [0, 575]] = 2.0  # at the borders
    ranked = sorted(range(576), key=lambda j: (-objects[0, j], j))
    first = set()
    for anchor in ranked[: round(tokens * 0.1 / 5)]:
        around = (anchor, anchor - 1, anchor + 1, anchor - 24, anchor + 24)
        first |= {min(max(j, 0), 575) for j in around}
    registers = registers - torch.tensor([[float(j in first) for j in range(576)]])
    rest = sorted(range(576), key=lambda j: (-registers[0, j], j))[: tokens - len(first)]
    registers = registers + torch.tensor([[float(j in first) for j in range(576)]])
    assert hierarchy(objects, registers, 24, tokens)[0].tolist() == sorted(first | set(rest))


@pytest.mark.parametrize("kept", [1, 6, 62, 63, 191, 257, 288, 399, 575])
def test_the_best_beside_a_grid(kept):
    step = grid_step(576, kept)
    ranking = torch.randperm(576, generator=torch.manual_seed(kept))[None]
    grid = range(0, 575, step)
    best = 0
    while len(set(ranking[0, :best].tolist()) | set(grid)) < kept:
        best += 1
    first = ranking[0, :best].tolist()
    expected = first + [j for j in grid if j not in first]
    assert best_and_grid(ranking, kept, step)[0].tolist() == expected


def test_the_step_is_the_published_proportion_where_it_can_be():
    assert [grid_step(576, budget - 1) for budget in (192, 128, 64)] == [4, 6, 12]
    assert grid_step(576, 384) == 2
    assert grid_step(576, 399) == 2  # a step of 1 would keep all


@pytest.mark.parametrize("kept", [0, 5, 39])
def test_what_a_merged_patch_takes(kept):
    draw = torch.manual_seed(kept)
    chosen = torch.randperm(40, generator=draw)[None, :kept]
    weights, keys = torch.rand(1, 40, generator=draw), torch.randn(1, 40, 6, generator=draw)
    found = merged(chosen, weights, keys)[0]
    for row, own in zip(found, chosen[0].tolist(), strict=False):
        alike = (keys[0] @ keys[0, own]).tolist()
        near = sorted(set(range(40)) - {own}, key=lambda j: -alike[j])[:32]
        expected = [float(weights[0, j]) * (j in near) for j in range(40)]
        assert row.tolist() == pytest.approx(expected)
    left = [float(weights[0, j]) * (j not in chosen[0].tolist()) for j in range(40)]
    assert found[-1].tolist() == pytest.approx(left)


@pytest.mark.parametrize(
    ("side", "wanted", "each"), [(24, 96, 4), (24, 150, 4), (27, 500, 4), (8, 43, 4), (5, 25, 2)]
)
def test_windows_and_the_whole_image(side, wanted, each):
    """So many windows along `each` side, with two rows of patches at least."""
    part, draw = Part(0, side, side, side), torch.manual_seed(wanted)
    assert windows_of(part) == (each, each)
    early, late = ((torch.rand(1, side**2, generator=draw) * 50).round() for _ in range(2))
    local, globally = halves(wanted, part)
    windows: dict[tuple[int, int], list[int]] = {}
    for j in range(side**2):
        windows.setdefault((j // side * each // side, j % side * each // side), []).append(j)
    kept = set()
    for members in windows.values():
        kept |= set(sorted(members, key=lambda j: (-early[0, j], j))[: local // each**2])
    others = [j for j in range(side**2) if j not in kept]
    kept |= set(sorted(others, key=lambda j: (-late[0, j], j))[:globally])
    assert scanned(early, late, part, wanted)[0].nonzero()[:, 0].tolist() == sorted(kept)
    assert len(kept) == local + globally


def test_patches_are_averaged_within_their_image():
    rows = torch.tensor([[[1.0, 0], [0, 1], [2, 0.1], [3, 0], [0, 5], [1, 1]]])
    image = torch.tensor([[0, 0, 0, 1, 1, 1]])
    cut = averaged(rows, image, torch.tensor([[0, 1, 4]]))
    expected = [[1.5, 0.05], [0, 1], [4 / 3, 2]]
    torch.testing.assert_close(apply_cut(rows, cut)[0], torch.tensor(expected))


def test_overlapping_groups_are_a_weighted_sum_beside_the_anchor():
    rows = torch.tensor([[[1.0], [10.0], [100.0]]])
    weights = torch.tensor([[[0.5, 0.5, 0.0], [0.5, 0.0, 1.0]]])
    cut = Cut(torch.tensor([[2, 0]]), None, torch.tensor([[True, False]]), weights)
    assert apply_cut(rows, cut).tolist() == [[[105.5], [100.5]]]


def test_the_published_lists_come_to_what_the_paper_prints():
    means = {percent: sum(printed(percent)) / 32 for percent in (0, 40, 60, 70, 80, 90)}
    assert {p: round(mean, 1) for p, mean in means.items()} == {
        0: 576.0, 40: 362.5, 60: 245.0, 70: 187.9, 80: 130.6, 90: 72.8,
    }  # fmt: skip


def test_what_a_token_gets_is_taken_at_the_strongest_head():
    visual = torch.tensor([[[[1.0, 0.0], [0.2, 0.8]], [[1.0, 0.0], [0.6, 0.4]]]])
    text = torch.tensor([[[[0.9, 0.9], [0.1, 0.3]], [[0.9, 0.9], [0.2, 0.0]]]])
    after = torch.tensor([[False, True]])
    torch.testing.assert_close(attended(visual, text, after), torch.tensor([[0.16, 0.12]]))


def test_heads_that_share_a_key_attend_with_it():
    draw = torch.manual_seed(0)
    query, keys = torch.randn(1, 4, 8, generator=draw), torch.randn(1, 2, 5, 8, generator=draw)
    heads = [(keys[0, h // 2] @ query[0, h] / 8**0.5).softmax(-1) for h in range(4)]
    torch.testing.assert_close(
        attention_without_rope(query, keys)[0], torch.stack(heads).mean(0), atol=1e-6, rtol=0
    )
