"""Plans are integer arithmetic: what they promise is what was asked, or they say what can be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from of_images import CUTTING_ONE_IMAGE

import baselines
from baselines.pooling import blocks_of
from methods import Budget, InfeasibleBudgetError, PruningError, get_method, methods
from methods.interface import Crops, Newline, Read, Segment, Sizes, View
from methods.planning import half_up, scaled_layers
from methods.tensors import apply_cut

GRIDS = {144: (12, 12), 256: (16, 16), 576: (24, 24), 729: (27, 27), 2880: (48, 60)}
LLAVA = Sizes(32, (Segment(24, 24),))


def sizes_of(layers, tokens, images=1):
    return Sizes(layers, (Segment(*GRIDS[tokens]),) * images)


CUTTING = [(name, {}) for name in sorted(CUTTING_ONE_IMAGE)]


VARIANTS = [
    ("sparsevlm", {"variant": "plus"}),
    ("prumerge", {"variant": "plus"}),
    ("fastv", {"rope": False}),
    ("feather", {"dropped": 0.79}),
]


@pytest.mark.parametrize(("name", "variant"), [*CUTTING, *VARIANTS])
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([8, 12, 24, 28, 32, 40, 80]),
    st.sampled_from(sorted(GRIDS)),
    st.integers(1, 2880),
    st.integers(1, 3),
)
def test_counts_are_within_one_of_the_request(name, variant, layers, tokens, budget, images):
    sizes = sizes_of(layers, tokens, images)
    budget = budget % sizes.tokens + 1
    try:
        plan = get_method(name, **variant).plan(Budget(budget), sizes)
    except InfeasibleBudgetError:
        return
    assert len(plan.entering) == layers
    assert abs(plan.mean_entering - budget) <= 1
    assert all(a >= b >= 1 for a, b in zip(plan.entering, plan.entering[1:], strict=False))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("fastv", 37, 576),
        ("random", 1, 576),
        ("uniform", 1, 576),
        ("visionzip", 2, 576),
        ("pyramiddrop", 37, 576),
        ("sparsevlm", 57, 576),
        ("hiprune", 1, 576),
        ("prumerge", 1, 576),
        ("v2drop", 55, 396),
        ("dart", 40, 576),
        ("feather", 43, 314),
        ("fitprune", 73, 576),
        ("vscan", 17, 576),
    ],
)
def test_the_feasible_range_of_llava(name, low, high):
    assert get_method(name).feasible(LLAVA) == (low, high)


def test_vitcop_cannot_keep_more_than_three_quarters():
    low, high = get_method("vitcop").feasible(LLAVA)
    assert high == 432
    assert low == 8
    with pytest.raises(InfeasibleBudgetError, match=f"ViTCoP cannot meet 500 .* {low} to 432"):
        get_method("vitcop").plan(Budget(500), LLAVA)


@pytest.mark.parametrize(
    ("budget", "tokens"), [(192, (288, 253, 51)), (128, (230, 165, 33)), (64, (172, 77, 15))]
)
def test_vitcop_meets_the_published_settings(budget, tokens):
    plan = get_method("vitcop").plan(Budget(budget), LLAVA)
    assert plan.parameters["tokens"] == tokens
    published = {192: (0.5, 0.18), 128: (0.4, 0.15), 64: (0.3, 0.12)}[budget]
    assert (plan.parameters["vision_ratio"], plan.parameters["cluster_share"]) == published


@pytest.mark.parametrize("budget", [7, 33, 64, 128, 192, 400])
@pytest.mark.parametrize(("name", "variant"), [*CUTTING, *VARIANTS])
def test_budgets_in_the_feasible_range_are_met_within_one(name, variant, budget):
    method = get_method(name, **variant)
    low, high = method.feasible(LLAVA)
    if low <= budget <= high:
        assert abs(method.plan(Budget(budget), LLAVA).mean_entering - budget) <= 1
    else:
        with pytest.raises(InfeasibleBudgetError, match=f"feasible is {low} to {high}"):
            method.plan(Budget(budget), LLAVA)


@pytest.mark.parametrize(
    ("budget", "tokens"), [(192, (270, 126, 1)), (128, (154, 41, 1)), (64, (22, 1, 1))]
)
def test_v2drop_meets_budgets_with_one_ratio(budget, tokens):
    assert get_method("v2drop").plan(Budget(budget), LLAVA).parameters["tokens"] == tokens
    assert get_method("v2drop").plan(Budget(budget), LLAVA).mean_entering - budget < 1


def test_feather_as_published_and_with_shrunken_layers():
    plan = get_method("feather", schedule="published").plan(Budget(64), LLAVA)
    assert plan.entering == (576,) * 8 + (217,) * 8 + (19,) * 16
    layers = {
        b: get_method("feather").plan(Budget(b), LLAVA).parameters["layers"] for b in (192, 64)
    }
    assert layers == {192: (7, 15), 64: (2, 3)}


def test_vscan_by_the_papers_rule():
    for budget, kept, left in ((192, 288, 96), (128, 192, 64), (64, 96, 32)):
        for schedule in ("matched", "published"):
            plan = get_method("vscan", schedule=schedule).plan(Budget(budget), LLAVA)
            assert plan.entering == (kept,) * 16 + (left,) * 16
    odd = get_method("vscan", schedule="published").plan(Budget(100), LLAVA)
    assert odd.entering == (139,) * 16 + (50,) * 16
    with pytest.raises(InfeasibleBudgetError):
        get_method("vscan", schedule="published").plan(Budget(20), LLAVA)


def test_fitprune_as_published_is_for_llava():
    method = get_method("fitprune", schedule="published", percent="90")
    assert float(method.plan(Budget(64), LLAVA).mean_entering) == pytest.approx(72.8, abs=0.05)
    with pytest.raises(PruningError, match="published lists are for 576 tokens and 32 layers"):
        method.plan(Budget(64), sizes_of(8, 576))
    with pytest.raises(PruningError, match="unknown percent '50'"):
        get_method("fitprune", percent=50)


@pytest.mark.parametrize(("budget", "tokens"), [(192, 166), (128, 98), (64, 30)])
def test_fastv_meets_the_published_settings(budget, tokens):
    plan = get_method("fastv").plan(Budget(budget), LLAVA)
    assert plan.entering == (576,) * 2 + (tokens,) * 30


@pytest.mark.parametrize(
    ("variant", "budget", "entering", "leaving"),
    [
        ("v1.5", 192, 206.5, 192.0),
        ("v1.5", 128, 145.40625, 128.6),
        ("v1.5", 64, 82.25, 64.8),
    ],
)
def test_sparsevlms_lists_count_what_leaves_a_layer(variant, budget, entering, leaving):
    plan = get_method("sparsevlm", schedule="published", variant=variant).plan(
        Budget(budget), LLAVA
    )
    assert float(plan.mean_entering) == entering
    left = (*plan.entering[1:], plan.entering[-1])
    assert sum(left) / 32 == pytest.approx(leaving, abs=0.05)


@pytest.mark.parametrize(("budget", "split"), [(192, (162, 30)), (128, (108, 20)), (64, (54, 10))])
def test_visionzip_meets_the_published_splits(budget, split):
    plan = get_method("visionzip").plan(Budget(budget), LLAVA)
    assert (plan.parameters["dominant"], plan.parameters["contextual"]) == (
        (split[0],),
        (split[1],),
    )


def test_pyramiddrop_as_published():
    plan = get_method("pyramiddrop", schedule="published").plan(Budget(192), LLAVA)
    assert plan.entering == (576,) * 8 + (288,) * 8 + (144,) * 8 + (72,) * 8
    plan = get_method("pyramiddrop").plan(Budget(270), LLAVA)
    assert plan.parameters["layers"] == (8, 16, 24)
    assert plan.parameters["ratio"] == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize(
    ("budget", "blocks"), [(192, (12, 16)), (128, (8, 16)), (64, (8, 8)), (37, (6, 6))]
)
def test_pooling_takes_the_most_square_blocks(budget, blocks):
    plan = get_method("pooling").plan(Budget(budget), LLAVA)
    assert plan.parameters["blocks"] == (blocks,)


def test_pooling_averages_blocks_as_even_as_can_be():
    block, first = blocks_of(4, 6, (2, 4), torch.device("cpu"))
    assert block.reshape(4, 6).tolist() == [[0, 1, 1, 2, 3, 3]] * 2 + [[4, 5, 5, 6, 7, 7]] * 2
    assert first.tolist() == [0, 1, 3, 4, 12, 13, 15, 16]


def test_pooling_averages_a_picture_without_its_newlines():
    picture = Segment(3, 4, newline=Newline.ROW, crops=Crops(2, 2, 2, top=1))
    sizes = Sizes(2, (Segment(2, 2), picture))
    (stage,) = get_method("pooling").plan(Budget(5), sizes).decoder
    hidden = torch.rand(1, 4 + 15, 3, generator=torch.manual_seed(0))
    segments = torch.tensor([[0] * 4 + [1] * 15])
    cut = stage.select(View(19, segments, reads={Read.HIDDEN: hidden})).cut
    patches = hidden[0, 4:].reshape(3, 5, 3)[:, :4]
    blocks = [rows[:, i : i + 2] for rows in (patches[:1], patches[1:]) for i in (0, 2)]
    expected = [hidden[0, :4].mean(0), *(block.mean((0, 1)) for block in blocks)]
    found = apply_cut(hidden, cut)[0]
    assert len(found) == 5
    torch.testing.assert_close(found, torch.stack(expected))


PICTURES = {
    2928: Segment(48, 48, newline=Newline.ROW, crops=Crops(2, 2, 24)),
    2340: Segment(36, 48, newline=Newline.ROW, crops=Crops(2, 2, 24, top=6)),
    1890: Segment(18, 72, newline=Newline.ROW, crops=Crops(1, 3, 24, top=3)),
}
ON_CROPS = [
    name
    for name in CUTTING_ONE_IMAGE
    if get_method(name).crops or not (get_method(name).tower_reads or get_method(name).inside_tower)
]


@pytest.mark.parametrize("tokens", PICTURES)
@pytest.mark.parametrize("name", [n for n in ON_CROPS if not get_method(n).of_video])
def test_budgets_on_published_pictures_of_crops(name, tokens):
    """Of square, wide and very wide images at 336 pixels a crop, view and newlines included."""
    sizes = Sizes(32, (Segment(24, 24), PICTURES[tokens]))
    assert sizes.tokens == tokens
    low, high = get_method(name).feasible(sizes)
    for budget in (Fraction(2 * tokens, 9), Fraction(tokens, 9), Fraction(640), Fraction(420)):
        plan = get_method(name).solve(budget, sizes)
        if plan is None:
            assert low is None or not low <= budget <= high or name == "pooling"
        else:
            wanted = half_up(budget) if name == "pooling" else budget
            assert abs(plan.mean_entering - wanted) <= 1


def test_a_sample_with_fewer_tokens_than_the_budget_stays_whole():
    for name in methods():
        plan = get_method(name).plan(Budget(600), LLAVA)
        assert plan.entering == (576,) * 32
        assert not plan.encoder + plan.decoder


def test_a_fraction_is_of_the_samples_tokens():
    assert Budget(fraction=1 / 9).of(576) == 64
    assert get_method("random").plan(Budget(fraction=1 / 3), LLAVA).entering == (192,) * 32


@pytest.mark.parametrize("tokens", [0, -3, float("nan"), float("inf"), True, "64"])
def test_budgets_that_are_no_positive_number_are_refused(tokens):
    with pytest.raises(PruningError, match="positive number"):
        Budget(tokens)


def test_a_budget_is_tokens_or_a_fraction():
    for arguments in ({}, {"tokens": 3, "fraction": 0.5}):
        with pytest.raises(PruningError, match="exactly one"):
            Budget(**arguments)
    with pytest.raises(PruningError, match="at most 1"):
        Budget(fraction=1.5)


def test_layers_scale_with_the_depth():
    assert scaled_layers((2, 22), 32) == (2, 22)
    assert scaled_layers((2, 22), 8) == (1, 5)
    assert scaled_layers((2, 6, 15), 8) == (1, 2, 3)
    plan = get_method("fastv", schedule="published").plan(Budget(300), sizes_of(8, 576))
    assert plan.entering == (576,) * 2 + (208,) * 6


def test_halves_round_up():
    assert [half_up(Fraction(n, 2)) for n in (1, 2, 3, -1)] == [1, 1, 2, 0]


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("vitcopp", {}, "unknown method 'vitcopp'; did you mean 'vitcop'"),
        ("zzz", {}, "unknown method 'zzz'; allowed: cdpruner, dart, divprune, downsample, dycoke"),
        ("fastv", {"layr": "3"}, "fastv has no setting 'layr'; did you mean 'layer'"),
        ("uniform", {"seed": 1}, "uniform has no setting 'seed'; it has no settings"),
        ("fastv", {"layer": "two"}, "fastv: layer is int"),
        ("fastv", {"schedule": "publishd"}, "did you mean 'published'"),
        ("vitcop", {"vision_ratio": "1.5"}, "vision_ratio lies in"),
        ("vitcop", {"original_positions": "maybe"}, "original_positions is bool"),
        ("prumerge", {"variant": "pluss"}, "did you mean 'plus'"),
        ("feather", {"dropped": "1"}, "dropped lies between 0 and 1"),
    ],
)
def test_unknown_names_and_settings_are_refused_with_the_nearest(name, settings, sentence):
    with pytest.raises(PruningError, match=sentence.replace("(", r"\(")):
        get_method(name, **settings)


def test_the_order_of_methods_does_not_depend_on_who_imported_them_first():
    assert list(methods())[:3] == ["unpruned", "vitcop", "tome"]


def test_settings_are_read_from_text():
    assert get_method("fastv", layer="3").layer == 3
    assert get_method("vitcop", original_positions="true", vision_ratio="0.5").vision_ratio == 0.5
    assert get_method("fastv", layer="none").layer is None


@pytest.mark.parametrize("layers", [{"layer": 8}, {"layer": 0}, {"layer": -1}])
def test_layers_outside_the_model_are_refused(layers):
    with pytest.raises(PruningError, match="do not rise within 1 to 7"):
        get_method("fastv", **layers).plan(Budget(300), sizes_of(8, 576))


def test_a_method_is_shipped_by_its_file():
    files = {path.stem for path in Path(baselines.__file__).parent.glob("[!_]*.py")}
    assert set(methods()) == files | {"vitcop"}


def test_pyramiddrop_has_no_plan_where_its_three_cuts_have_no_room():
    """Its cuts move to early layers for small budgets; here the third would be past the last."""
    sizes = Sizes(6, (Segment(8, 11),))
    try:
        plan = get_method("pyramiddrop").plan(Budget(30), sizes)
    except InfeasibleBudgetError:
        return
    assert abs(plan.mean_entering - 30) <= 1
