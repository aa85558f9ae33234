"""Budgets of equal FLOPs, and what a selection costs."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from of_images import CUTTING_ONE_IMAGE
from shapes import LLAVA_7B, ONE_IMAGE

from harness.records.cell import Cell, MethodSpec
from harness.run.matching import matched, matched_cells, method_flops, plain_flops
from methods import Budget, InfeasibleBudgetError, get_method
from methods.flops import selection_flops
from methods.interface import (
    Cut,
    DecoderStage,
    EncoderStage,
    Plan,
    PruningError,
    Segment,
    Selection,
    Sizes,
)

TEXT = 40


@pytest.mark.parametrize("name", CUTTING_ONE_IMAGE)
@pytest.mark.parametrize("budget", [192, 128, 64])
def test_flops_match_within_one_percent_or_a_tokens_step(name, budget):
    budget = max(budget, get_method(name).feasible(ONE_IMAGE)[0] + 1)
    cell = matched(Cell(MethodSpec(name), budget), ONE_IMAGE, LLAVA_7B, TEXT)
    wanted = plain_flops(budget, LLAVA_7B, TEXT)
    found = method_flops(get_method(name), cell.tokens, ONE_IMAGE, LLAVA_7B, TEXT)
    step = plain_flops(budget + 1, LLAVA_7B, TEXT) - wanted
    assert abs(found - wanted) <= max(0.01 * wanted, step)


def test_controls_that_cost_nothing_keep_their_budget():
    assert matched(Cell(MethodSpec("random"), 192), ONE_IMAGE, LLAVA_7B, TEXT).tokens == 192


def test_early_layers_left_whole_cost_more_than_their_share():
    """Attention is quadratic, so FastV's two whole layers cost more than its mean says."""
    assert matched(Cell(MethodSpec("fastv"), 64), ONE_IMAGE, LLAVA_7B, TEXT).tokens < 64


def test_a_cost_that_a_method_cannot_meet_is_infeasible():
    cell = Cell(MethodSpec("fastv"), 20)
    with pytest.raises(InfeasibleBudgetError, match="FastV cannot meet 20"):
        matched(cell, ONE_IMAGE, LLAVA_7B, TEXT)
    cells, infeasible = matched_cells(
        [cell, Cell(MethodSpec("uniform"), 20)], ONE_IMAGE, LLAVA_7B, TEXT
    )
    assert set(infeasible) == {cell}
    assert [c.tokens for c in cells] == [20, 20]


def test_a_matched_cell_is_read_back_from_its_text():
    cell = Cell(MethodSpec("fastv"), 192, 3, 187)
    assert cell.text == "fastv@192=187#3"
    assert Cell.parse(cell.text) == cell
    assert cell.identity()["matched"] == 187
    assert "matched" not in Cell(MethodSpec("fastv"), 192).identity()


@pytest.mark.parametrize("name", CUTTING_ONE_IMAGE)
def test_selections_cost_under_a_percent_of_the_unpruned_prefill(name):
    plan = get_method(name).plan(Budget(192), ONE_IMAGE)
    flops = selection_flops(plan, ONE_IMAGE, LLAVA_7B, TEXT)
    assert 0 <= flops < 0.01 * plain_flops(576, LLAVA_7B, TEXT)


def reads_a_value(view):
    return Selection(Cut(torch.zeros_like(view.segments)[:, : int(view.segments.sum())]))


def lets_values_decide_a_shape(view):
    return Selection(Cut(view.segments.nonzero()[None, :, 1]))


def is_not_written_yet(view):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("select", "cause"),
    [
        (reads_a_value, "RuntimeError: "),
        (lets_values_decide_a_shape, "NotImplementedError: "),
        (is_not_written_yet, "NotImplementedError: "),
    ],
)
def test_a_stage_that_needs_values_is_named(select, cause):
    late = Plan((1,) * 32, decoder=(DecoderStage("guess", 2, (), select),))
    early = Plan((1,) * 32, encoder=(EncoderStage("glance", (), select),))
    with pytest.raises(PruningError, match=f"stage guess before layer 2 fails on .*{cause}"):
        selection_flops(late, ONE_IMAGE, LLAVA_7B, TEXT)
    with pytest.raises(PruningError, match=f"stage glance in the vision tower fails on .*{cause}"):
        selection_flops(early, ONE_IMAGE, LLAVA_7B, TEXT)


def test_what_fastv_reads_is_one_row_of_attention():
    plan = get_method("fastv").plan(Budget(192), ONE_IMAGE)
    assert selection_flops(plan, ONE_IMAGE, LLAVA_7B, TEXT) == 2 * (576 + TEXT) * 4096


def test_visionzip_compares_rows_with_targets():
    plan = get_method("visionzip").plan(Budget(64), ONE_IMAGE)
    width = 1024
    cls_row = 2 * 577 * width
    similarities = 2 * 577 * 10 * (width // 16)
    merging = 2 * 64 * 577 * width
    found = selection_flops(plan, ONE_IMAGE, LLAVA_7B, TEXT)
    assert found == cls_row + similarities + merging


def test_vitcop_compares_kept_patches_with_each_other():
    plan = get_method("vitcop").plan(Budget(192), ONE_IMAGE)
    kept, tokens, _ = plan.parameters["tokens"]
    distances = 2 * kept**2 * 1024
    sums = 2 * kept * kept
    merging = 2 * tokens * kept * 4096
    found = selection_flops(plan, ONE_IMAGE, LLAVA_7B, TEXT)
    assert found == pytest.approx(2 * 577 * 1024 + distances + sums + merging, rel=0.01)


VIDEO = Sizes(32, (Segment(14, 14, 8, "video"),))


def test_where_data_decide_counts_the_plan_says_what_matches():
    cell = matched(Cell(MethodSpec("framefusion"), 400), VIDEO, LLAVA_7B, TEXT)
    wanted = plain_flops(400, LLAVA_7B, TEXT)
    found = method_flops(get_method("framefusion"), cell.tokens, VIDEO, LLAVA_7B, TEXT)
    assert found == pytest.approx(wanted, rel=0.01)


def test_framefusion_costs_attention_and_merging_of_the_layers_that_cut():
    plan = get_method("framefusion").solve(Fraction(1568 + 31 * 300, 32), VIDEO)

    def of_layer(seen: int, left: int) -> int:
        return 2 * (seen + TEXT) * 4096 + 2 * left * seen * 4096

    planned = selection_flops(plan, VIDEO, LLAVA_7B, TEXT)
    assert planned == of_layer(1568, 300)
    entering = (1568, 1000, *(277,) * 20, *(276,) * 10)
    assert sum(entering) == sum(plan.entering)
    found = selection_flops(plan, VIDEO, LLAVA_7B, TEXT, entering=entering)
    assert found == of_layer(1568, 1000) + of_layer(1000, 277) + of_layer(277, 276)
