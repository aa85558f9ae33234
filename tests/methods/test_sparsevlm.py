"""SparseVLM's formulas on worked cases."""

from __future__ import annotations

from math import cos

import pytest
import torch

from baselines.sparsevlm import raters, recycled, rope_product
from methods import Budget, attach, get_method
from methods.clustering import cluster_dpc_knn


def text_of(*scores):
    """Embeddings of text tokens whose product with every visual token is the score."""
    return torch.tensor(scores)[None, :, None]


VISUAL = torch.ones(1, 3, 1)
ALL = torch.tensor([[True, True, True, True, False]])


def test_raters_are_above_the_mean_of_the_text_after_the_image():
    text = text_of(0.0, 2.0, 0.0, 2.5, 9.0)
    assert raters(VISUAL, text, ALL).tolist() == [[False, True, False, True, False]]


def test_text_before_the_image_neither_rates_nor_counts():
    after = torch.tensor([[False, True, True, True, False]])
    text = text_of(9.0, 0.0, 0.0, 1.0, 9.0)
    assert raters(VISUAL, text, after).tolist() == [[False, False, False, True, False]]


@pytest.mark.parametrize("after", [[False] * 5, [True, True, False, False, False]])
def test_a_question_without_a_rater_is_rated_by_its_last_token(after):
    """No text after the image at all, or all of it alike."""
    found = raters(VISUAL, text_of(1.0, 1.0, 1.0, 1.0, 1.0), torch.tensor([after]))
    assert found.tolist() == [[False, False, False, False, True]]


def test_a_prompt_that_ends_with_its_image_is_pruned(model, prompts):
    ids = prompts.tokens[0][:-5]
    assert ids[-1] == 99
    inputs = {"input_ids": torch.tensor([ids]), "pixel_values": prompts.pixels[0]}
    with attach(model, get_method("sparsevlm"), Budget(24)) as trace, torch.no_grad():
        model(**inputs)
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)


@pytest.mark.parametrize(("dropped", "rows", "clusters"), [(276, 83, 9), (1, 1, 1), (510, 154, 16)])
def test_how_many_are_recycled(dropped, rows, clusters):
    assert recycled(dropped) == (rows, clusters)


def test_two_far_groups_are_two_clusters():
    rows = torch.tensor([[0.0], [9.0], [0.1], [9.2], [0.2]])[None]
    centres, labels = cluster_dpc_knn(rows, 2)
    assert {labels[0, i].item() for i in (0, 2, 4)} != {labels[0, i].item() for i in (1, 3)}
    assert len({labels[0, i].item() for i in (0, 2, 4)}) == 1
    assert labels[0, centres[0]].tolist() == [0, 1]


def test_of_equal_densities_the_earlier_is_denser():
    """Equal tokens: the first is the only peak, the next centre is the next token."""
    centres, labels = cluster_dpc_knn(torch.zeros(1, 4, 3), 2)
    assert centres.tolist() == [[0, 1]]
    assert labels.tolist() == [[0, 1, 0, 0]]


def test_what_rope_alone_gives():
    rows, columns = torch.tensor([[5]]), torch.tensor([[5, 3]])
    product = rope_product(rows, columns, torch.tensor([1.0, 0.5]))
    expected = [2 * (1 + 1) / 2, 2 * (cos(2.0) + cos(1.0)) / 2]
    torch.testing.assert_close(product, torch.tensor([[expected]]))
