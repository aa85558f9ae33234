"""Choices against their rules written down with loops, and at their ends."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from baselines.cdpruner import most_probable, scaled
from baselines.divprune import most_diverse
from baselines.gprune import arrived
from baselines.holov import most_attended_by_run, quotas, runs_of
from baselines.scope import most_covering
from baselines.vispruner import important_and_diverse, least_alike
from methods import Budget, PruningError, get_method
from methods.interface import Segment, Sizes
from methods.relevance import relevance_to_text

GENERATOR = torch.Generator().manual_seed(5)


def draw(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def cosines(rows):
    unit = normalize(rows, dim=-1)
    return unit @ unit.T


def best_of(candidates, value):
    """The one of largest value, the first of equal ones."""
    return max(candidates, key=lambda i: (float(value(i)), -i))


def diverse_by_loops(rows, count):
    apart = 1 - cosines(rows)
    everything = range(len(rows))
    chosen = [best_of(everything, lambda j: apart[:, j].sort().values[1])]
    while len(chosen) < count:
        rest = [j for j in everything if j not in chosen]
        chosen.append(best_of(rest, lambda j: apart[chosen, j].min()))
    return chosen


def covering_by_loops(rows, saliency, count):
    alike, chosen = cosines(rows), []
    for _ in range(count):
        covered = alike[chosen].amax(0).clamp(min=0) if chosen else torch.zeros(len(rows))
        rest = [j for j in range(len(rows)) if j not in chosen]
        gains = {j: saliency[j] * (alike[j] - covered).clamp(min=0).sum() for j in rest}
        chosen.append(best_of(rest, gains.__getitem__))
    return chosen


def probable_by_loops(rows, relevance, count):
    """By determinants themselves, in float64."""
    kernel = relevance[:, None].double() * cosines(rows.double()) * relevance.double()
    chosen = []
    for _ in range(count):
        rest = [j for j in range(len(rows)) if j not in chosen]
        chosen.append(best_of(rest, lambda j: kernel[[*chosen, j]][:, [*chosen, j]].det()))
    return sorted(chosen)


def least_alike_by_loops(rows, count):
    alike, pool = cosines(rows), list(range(len(rows)))
    while len(pool) > count:
        first, second = pool[::2], pool[1::2]
        drop = min(8, len(pool) - count, len(first))
        first = sorted(first, key=lambda e: -float(alike[e, second].max()))
        pool = first[drop:] + second
    return pool


def test_a_batch_is_chosen_row_by_row_as_the_loops_do():
    rows, saliency = draw(2, 30, 12), draw(2, 30).abs()
    relevance = scaled(saliency)
    wide = rows.double()
    for row in range(2):
        own, weights = rows[row], saliency[row]
        assert most_diverse(rows, 9)[row].tolist() == diverse_by_loops(own, 9)
        assert most_covering(rows, saliency, 9)[row].tolist() == covering_by_loops(own, weights, 9)
        expected = probable_by_loops(own, relevance[row], 9)
        assert most_probable(rows, relevance, 9)[row].tolist() == expected
        assert least_alike(wide, 9)[row].tolist() == least_alike_by_loops(wide[row], 9)


@pytest.mark.parametrize(("rows", "count"), [(31, 6), (3, 1), (17, 16), (2, 1), (9, 9)])
def test_vispruners_pool_may_be_odd(rows, count):
    wide = draw(1, rows, 8).double()
    assert least_alike(wide, count)[0].tolist() == least_alike_by_loops(wide[0], count)


@pytest.mark.parametrize(("ratio", "important"), [(0.0, 0), (0.5, 6), (0.75, 9), (1.0, 13)])
def test_vispruner_keeps_the_most_attended(ratio, important):
    attention, features = draw(1, 4, 64).softmax(-1), draw(1, 64, 8)
    kept = important_and_diverse(attention, features, important, 13 - important)[0].tolist()
    assert len(set(kept)) == 13 == len(kept)
    assert set(attention.mean(1)[0].topk(important).indices.tolist()) <= set(kept)
    plan = get_method("vispruner", important_ratio=ratio).plan(
        Budget(13), Sizes(8, (Segment(8, 8),))
    )
    assert plan.entering == (13,) * 8


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(PruningError, match="important_ratio lies in 0 to 1"):
        get_method("vispruner", important_ratio=ratio)


def test_cdpruner_refuses_a_relevance_that_it_does_not_have():
    with pytest.raises(PruningError, match="unknown relevance 'vit'; allowed: clip, text"):
        get_method("cdpruner", relevance="vit")


def test_divprune_keeps_as_many_as_asked_of_fewer_different_tokens():
    """The published code keeps 40 of 40 different vectors five times, with 60 asked for."""
    rows = normalize(draw(1, 40, 16), dim=-1).repeat(1, 5, 1)
    chosen = most_diverse(rows, 60)[0]
    assert len(set(chosen.tolist())) == 60
    assert len(set((chosen[:40] % 40).tolist())) == 40


def test_cdpruner_fills_up_with_the_most_relevant_past_the_last_direction():
    rows, relevance = draw(1, 50, 8), scaled(draw(1, 50))
    chosen = most_probable(rows, relevance, 20)[0].tolist()
    first = most_probable(rows, relevance, 8)[0].tolist()
    rest = sorted(set(range(50)) - set(first), key=lambda j: -float(relevance[0, j]))
    assert chosen == sorted([*first, *rest[:12]])


def test_of_equal_tokens_the_first_are_kept():
    rows, equal = torch.ones(1, 20, 4), torch.ones(1, 20)
    first = list(range(5))
    assert most_probable(rows, scaled(equal), 5)[0].tolist() == first
    assert most_covering(rows, equal, 5)[0].tolist() == first
    assert most_diverse(rows, 5)[0].tolist() == first
    assert most_attended_by_run(equal, 5)[0].tolist() == [0, 2, 4, 6, 8]


def test_relevance_is_to_the_text_after_the_image_or_else_to_the_last_token():
    visual, text = draw(2, 6, 8), draw(2, 5, 8)
    after = torch.tensor([[False, True, True, True, False], [False] * 5])
    found = relevance_to_text(visual, text, after)
    for row, words in ((0, text[0, 1:4]), (1, text[1, 4:])):
        expected = (normalize(visual[row], dim=-1) @ normalize(words, dim=-1).T).mean(-1)
        torch.testing.assert_close(found[row], expected)


def test_holovs_runs_are_as_even_as_can_be():
    run, lengths = runs_of(37, torch.device("cpu"))
    assert lengths.tolist() == [3] * 5 + [2] * 11
    assert run.tolist() == sorted(run.tolist())
    assert run.bincount().tolist() == lengths.tolist()
    assert runs_of(5, torch.device("cpu"))[1].tolist() == [1] * 5


def test_holovs_quotas_end_at_a_runs_length():
    lengths = torch.tensor([4, 4, 4, 4])
    # 1, 6, 2 and 3 of 12; the two over go to the last run, which has room for one, and the third
    found = quotas(torch.tensor([[100.0, 600.0, 200.0, 300.0]]), lengths, 12)
    assert found.tolist() == [[1, 4, 3, 4]]
    # 0.5, 1, 1.5 and 2 of 5: the one left goes to the largest
    found = quotas(torch.tensor([[100.0, 200.0, 300.0, 400.0]]), lengths, 5)
    assert found.tolist() == [[0, 1, 1, 3]]


def test_holovs_runs_have_the_most_attended_first_unless_they_keep_all():
    attention = torch.zeros(1, 48)
    attention[0, :6] = torch.tensor([0.2, 0.1, 0.4, 0.05, 0.2, 0.05])
    assert most_attended_by_run(attention, 2)[0].tolist() == [2, 0]
    assert most_attended_by_run(attention, 4)[0].tolist() == [0, 1, 2, 4]


def test_holov_meets_its_budget_where_nothing_is_attended_to():
    kept = most_attended_by_run(torch.zeros(1, 64), 40)[0].tolist()
    assert len(set(kept)) == 40


def test_gprune_knows_a_token_of_zeros():
    rows = draw(1, 12, 6)
    rows[0, 3] = 0
    scores = arrived(rows)
    assert scores.isfinite().all()
    assert scores.argmin() == 3
