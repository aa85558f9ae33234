"""Stages inside the vision tower: against loops, in batches, with other methods' images about."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from math import log, sqrt

import contract
import pytest
import torch
from contract import logits, new_tokens
from flash_stand_in import flash_path
from small_models import IMAGE, make_prompts, small_llava

from methods import (
    Budget,
    Cut,
    Method,
    Plan,
    PruningError,
    Selection,
    attach,
    get_method,
)
from methods.interface import EncoderStage, Read, TowerStage
from methods.sharing import SharedImages, TowerStore

LAYERS = 6
BUDGET = Budget(fraction=0.3)
NAMES = ("flowcut", "tome")


@pytest.fixture(scope="module", params=[True, False], ids=["clip", "siglip"])
def deep(request):
    """A tower deep enough to cut more than once."""
    return small_llava(tower_layers=LAYERS, has_cls=request.param)


def generate(model, inputs, name, budget=BUDGET, **options):
    return contract.generate(model, inputs, get_method(name), budget, **options)


# --- against loops ----------------------------------------------------------------------------


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


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [BUDGET, Budget(40), Budget(100)], ids=str)
def test_a_batch_gives_what_singles_give(deep, prompts, name, budget):
    """One image, two, none; images keep different rows; one sample may stay whole beside others."""
    inputs = prompts.batch(0, 1, 2, 3)
    together, trace = generate(deep, inputs, name, budget)
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)
    assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])
    for row in range(4):
        alone, own = generate(deep, prompts.batch(row), name, budget)
        torch.testing.assert_close(logits(alone)[0], logits(together)[row], atol=1e-4, rtol=0)
        assert (own.prefills[-1].tower_rows or [()])[0] == (prefill.tower_rows[row])


@pytest.mark.parametrize("name", NAMES)
def test_kernels_agree_where_rows_are_padded(prompts, name):
    inputs, model = prompts.batch(0, 1, 2), small_llava(tower_layers=LAYERS)
    one, trace = generate(model, inputs, name)
    eager = small_llava("eager", tower_layers=LAYERS)
    for other, path in ((eager, nullcontext()), (model, flash_path(model))):
        with path:
            out, again = generate(other, inputs, name)
        torch.testing.assert_close(logits(one), logits(out), atol=1e-4, rtol=0)
        contract.assert_same_selections(trace, again)


@pytest.mark.parametrize("name", NAMES)
def test_beams_in_a_batch_equal_beams_alone(clip, prompts, name):
    beams = {"num_beams": 3, "num_return_sequences": 2}
    inputs = prompts.batch(0, 1)
    together, _ = generate(clip, inputs, name, **beams)
    for row in (0, 1):
        alone, _ = generate(clip, prompts.batch(row), name, **beams)
        expected = new_tokens(together, inputs)[2 * row : 2 * row + 2]
        assert new_tokens(alone, prompts.batch(row)) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_the_counts(prompts, name, dtype):
    half, inputs = small_llava(tower_layers=LAYERS).to(dtype), prompts.batch(0, 1, 2)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    out, trace = generate(half, inputs, name)
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)
    assert logits(out).isfinite().all()


# --- what the tower is told, and what it leaves -------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_images_without_their_prompt_are_refused(model, prompts, name):
    inputs = prompts.batch(0)
    with (
        attach(model, get_method(name), Budget(fraction=0.4)),
        pytest.raises(PruningError, match="has to know the prompt before its images"),
    ):
        model.model.get_image_features(pixel_values=inputs["pixel_values"])


def test_more_images_than_the_prompt_names_are_refused(model, prompts):
    inputs = {**prompts.batch(0), "pixel_values": prompts.pixels[2]}
    with (
        attach(model, get_method("flowcut"), BUDGET),
        pytest.raises(PruningError, match="the prompts name 1 images but 2 were given"),
    ):
        model.generate(**inputs, max_new_tokens=2)


@pytest.mark.parametrize("name", NAMES)
def test_stored_images_are_neither_taken_nor_changed(model, prompts, name):
    """A comparison keeps the whole tower's outputs for all of its methods."""
    inputs, keys, store = prompts.batch(0, 1), ["a", "b"], TowerStore(2**30)
    budget = Budget(fraction=0.4)
    alone, _ = generate(model, inputs, name, budget)

    def shared(method):
        with attach(model, get_method(method), budget, images=SharedImages(store, keys)):
            out = model.generate(
                **inputs, max_new_tokens=4, do_sample=False, output_logits=True,
                return_dict_in_generate=True,
            )  # fmt: skip
        return logits(out)

    assert torch.equal(shared(name), logits(alone))
    assert not store.stored_bytes
    first = shared("fastv")
    assert store.holds(keys)
    assert torch.equal(shared(name), logits(alone))
    assert torch.equal(shared("fastv"), first)


def test_generate_is_put_back(model, prompts):
    def own(**inputs):
        return type(model).generate(model, **inputs)

    model.generate = own
    try:
        with attach(model, get_method("flowcut"), BUDGET) as trace:
            model.generate(**prompts.batch(0), max_new_tokens=2)
        assert model.__dict__.pop("generate") is own
    finally:
        model.__dict__.pop("generate", None)
    assert trace.prefills[-1].tower_rows


def test_keeping_everything_changes_nothing(deep, prompts):
    inputs = prompts.batch(0, 2, 3)
    plain, _ = generate(deep, inputs, "unpruned", Budget(10**6))
    for name in NAMES:
        kept, _ = generate(deep, inputs, name, Budget(10**6))
        assert torch.equal(logits(plain), logits(kept))


@dataclass(frozen=True)
class Inside(Method):
    """Keeps CLS and the first 8 patches after the first tower layer."""

    reads: tuple = ()
    select: object = None
    layer: int = 0
    encoder: tuple = ()
    name = label = "inside"
    inside_tower = True

    def solve(self, budget, sizes):
        tower = (TowerStage("own", self.layer, self.reads, self.select or first_nine),)
        images = len(sizes.segments)
        return Plan(
            (8 * images,) * sizes.layers, tower=(tower,) * images, encoder=self.encoder * images
        )


def first_nine(view):
    return Selection(Cut(torch.arange(9).expand(len(view.segments), -1)))


def test_a_stage_of_ones_own(model, prompts):
    _, trace = contract.generate(model, prompts.batch(0, 1, 2, 3), Inside())
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)
    assert prefill.selections[0].cut.anchors[0].tolist() == list(range(1, 9))
    assert prefill.tower_rows[2] == (((65, 65), (9, 9), (9, 9)),) * 2


def test_a_method_that_does_not_say_where_it_cuts_is_refused(model, prompts):
    class Silent(Inside):
        inside_tower = False

    with pytest.raises(PruningError, match="such a method sets inside_tower = True"):
        contract.generate(model, prompts.batch(0), Silent())


def weighing(view):
    anchors = torch.arange(9).expand(len(view.segments), -1)
    weights = torch.ones(*anchors.shape, view.count)
    return Selection(Cut(anchors, None, torch.zeros_like(anchors, dtype=torch.bool), weights))


def keeping(*rows, count=None):
    def select(view):
        batch = len(view.segments)
        counts = None if count is None else torch.tensor([count] * batch)
        return Selection(Cut(torch.tensor([rows] * batch), counts=counts))

    return select


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (
            Inside(select=keeping(0, 65)),
            "layer 0 of the vision tower: an index lies outside 0 to 64",
        ),
        (Inside(select=keeping(1, 0)), "layer 0 of the vision tower: CLS, row 0, has to stay"),
        (Inside(select=keeping(0)), "at least one patch has to stay"),
        (Inside(select=keeping(0, 1, count=1)), "at least one patch has to stay"),
        (Inside(select=keeping(0, 1, count=3)), "3 rows shall stay, but 2 are named"),
        (Inside(reads=(Read.HIDDEN,), select=weighing), "merged by groups, not by weights"),
        (Inside(layer=2), "layer 2 of the vision tower: allowed are layers 0 to 1"),
        (
            Inside(encoder=(EncoderStage("late", (), keeping(0)),)),
            "stages inside the vision tower and after it do not go together",
        ),
    ],
)
def test_stages_that_cannot_run_are_refused(model, prompts, method, sentence):
    with pytest.raises(PruningError, match=sentence):
        contract.generate(model, prompts.batch(0), method)


def test_prompts_of_another_length_follow(clip):
    """Nothing of one prompt's images is left for the next."""
    prompts = make_prompts()
    for row in (2, 0, 3, 1):
        _, trace = generate(clip, prompts.batch(row), "flowcut")
        assert torch.equal(trace.prefills[-1].entering, trace.prefills[-1].planned)
