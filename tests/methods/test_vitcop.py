"""ViTCoP's formulas against a plain transcription with loops over tokens and clusters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import cluster_by_loops, groups_by_loops

from methods import PruningError
from methods.clustering import cluster_in_reach
from methods.merging import coprune
from methods.tensors import apply_cut


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 24), st.floats(0.03, 1.0), st.booleans())
def test_cluster_equals_the_loops(seed, n, share, ties):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, n, 5, generator=generator) * 4
    if ties:
        x = x.round() * 2
    p = torch.rand(2, n, 2, generator=generator)
    labels = cluster_in_reach(x, p, share)
    for row in range(2):
        assert labels[row].tolist() == cluster_by_loops(x[row], p[row], share)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 12), st.data())
def test_coprune_equals_the_loops(seed, n, clusters, data):
    tokens = data.draw(st.integers(1, n))
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(2, n, 6, generator=generator)
    norms = torch.randint(1, 9, (2, n), generator=generator).float() / 4
    labels = torch.randint(0, clusters, (2, n), generator=generator)
    cut = coprune(hidden, norms, labels, tokens)
    out = apply_cut(hidden, cut)
    for row in range(2):
        groups = groups_by_loops(norms[row].tolist(), labels[row].tolist(), tokens)
        placed = sorted((members[len(members) // 2], members, merged) for members, merged in groups)
        assert cut.anchors[row].tolist() == [place for place, _, _ in placed]
        assert cut.add_anchor[row].tolist() == [merged for _, _, merged in placed]
        for i, (place, members, merged) in enumerate(placed):
            expected = hidden[row, members].mean(0) + (hidden[row, place] if merged else 0)
            torch.testing.assert_close(out[row, i], expected)


def test_more_clusters_than_tokens():
    labels = torch.tensor([[0, 0, 0, 1, 1, 2]])
    norms = torch.tensor([[1.0, 1.0, 1.0, 0.5, 0.5, 2.0]])  # sums 3, 1, 2
    hidden = torch.zeros(1, 6, 1)
    cut = coprune(hidden, norms, torch.tensor([[0, 0, 0, 1, 1, 2]]), 2)
    groups = cut.groups[0].tolist()
    assert groups[3] == groups[4] != groups[0]
    assert len({groups[0], groups[1], groups[2], groups[5]}) == 1
    cut = coprune(hidden, norms, labels, 3)
    assert cut.groups[0].tolist() == [0, 0, 0, 1, 1, 2]


def test_hand_case_of_norm_sums_3_1_2():
    """Sizes 3, 2, 1 with norm sums 3, 1, 2 and two tokens: the second cluster, and the others."""
    labels = torch.tensor([[5, 5, 5, 7, 7, 9]])
    norms = torch.tensor([[1.0, 1.0, 1.0, 0.5, 0.5, 2.0]])
    cut = coprune(torch.zeros(1, 6, 1), norms, labels, 2)
    assert cut.anchors[0].tolist() == [2, 4]
    assert cut.groups[0].tolist() == [0, 0, 0, 1, 1, 0]


def test_cycles_of_equal_density_form_one_more_cluster():
    """Two far pairs of equal tokens: each pair's members are each other's parents."""
    x = torch.tensor([[[0.0], [0.0], [0.5], [900.0], [900.0]]])
    p = torch.zeros(1, 5, 2)
    labels = cluster_in_reach(x, p, 0.2)
    assert labels[0].tolist() == cluster_by_loops(x[0], p[0], 0.2)
    assert labels.max() == 1


def test_more_peaks_than_centres_take_the_first_tokens_label():
    """Tokens too far apart in the image to be one another's parents are all peaks."""
    x = torch.zeros(1, 3, 1)
    p = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert cluster_in_reach(x, p, 0.4).tolist() == [[0, 0, 0]]


def test_a_merged_group_of_one_is_doubled():
    hidden = torch.ones(1, 2, 3)
    cut = coprune(hidden, torch.ones(1, 2), torch.tensor([[0, 1]]), 2)
    assert torch.equal(apply_cut(hidden, cut), 2 * hidden)


@pytest.mark.parametrize("tokens", [0, 5])
def test_token_counts_outside_the_rows_are_refused(tokens):
    with pytest.raises(PruningError, match="1 to 4 tokens"):
        coprune(torch.ones(1, 4, 2), torch.ones(1, 4), torch.zeros(1, 4, dtype=torch.long), tokens)
