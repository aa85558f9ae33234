"""What stages see of tiles whose patches are put together to tokens, and where that is refused."""

from __future__ import annotations

import pytest
import torch
from forbidden_keys import generated, pruned
from tiny_families import FAMILIES
from torch import Tensor

from baselines.hiprune import HiPrune
from methods import Budget, PruningError, get_method
from methods.adapters import adapter_for
from methods.interface import Cut, EncoderStage, OfLayer, Plan, Read, Selection
from methods.recording import observing

TILED = ("internvl", "idefics3", "smolvlm")
FIRST = OfLayer(Read.CLS_ATTENTION, 0)
READS = (
    *(Read.FEATURES, Read.CLS_ATTENTION, Read.RECEIVED_ATTENTION, Read.TOWER_KEYS),
    *(Read.CLS_QUERY, FIRST),
)


class Looking(HiPrune):
    """Keeps everything but the last token of the last tile, and what it has seen of each."""

    tower_reads = READS
    seen: list

    def solve(self, budget, sizes):
        last = len(sizes.segments) - 1

        def stage(i, segment):
            def select(view):
                self.seen.append(view)
                kept = torch.arange(view.count - (i == last))
                return Selection(Cut(kept.expand(len(view.segments), -1)))

            return EncoderStage("look", READS, select)

        return Plan(
            entering=(sizes.tokens - 1,) * sizes.layers,
            encoder=tuple(stage(i, segment) for i, segment in enumerate(sizes.segments)),
        )


def patches_of(row: int, column: int, cls: int) -> list[int]:
    """Rows of the tower, in a tile of 4 × 4 patches."""
    return [cls + (2 * row + i) * 4 + 2 * column + j for i in (0, 1) for j in (0, 1)]


TOKENS = [(row, column) for row in (0, 1) for column in (0, 1)]


def of_tokens(rows: Tensor, cls: int) -> Tensor:
    """[i, ..., rows of the tower] to the mean of each token's patches."""
    means = [rows[..., patches_of(*token, cls)].mean(-1) for token in TOKENS]
    return torch.stack(means, -1)


@pytest.mark.parametrize("name", TILED)
def test_tokens_are_what_their_patches_are(monkeypatch, name):
    model, inputs = FAMILIES[name]()
    monkeypatch.setattr(Looking, "seen", [], raising=False)
    pruned(generated, Looking(), model, inputs, budget=Budget(1))
    adapter, attended = adapter_for(model), {}
    layers, cls = adapter.tower_layers, int(adapter.has_cls)
    watched = {
        adapter.attention(layers[i]): lambda own, i=i: attended.update({i: own}) for i in (0, 2)
    }
    images = {"pixel_values": inputs["pixel_values"]}
    with torch.no_grad(), observing(watched):
        out = model.model.get_image_features(**images)
    embedded = torch.cat([rows.flatten(0, -2) for rows in out.pooler_output])
    weights = {
        i: (own.queries @ own.keys.transpose(2, 3) * own.scaling).softmax(-1)
        for i, own in attended.items()
    }
    keys = attended[2].keys.transpose(1, 2).flatten(2)
    expected = {
        Read.CLS_ATTENTION: of_tokens(asked(weights[2], cls), cls),
        FIRST: of_tokens(asked(weights[0], cls), cls),
        Read.RECEIVED_ATTENTION: of_tokens(weights[2].mean(2), cls),
        Read.TOWER_KEYS: of_tokens(keys.transpose(1, 2), cls).transpose(1, 2),
    }
    tiles = iter(range(len(keys)))
    for view in Looking.seen:
        tile = next(tiles)
        for read, shown in expected.items():
            torch.testing.assert_close(view[read][0], shown[tile])
        with torch.no_grad():
            projected = adapter.project(view[Read.FEATURES])[0]
        torch.testing.assert_close(projected, embedded[4 * tile : 4 * tile + 4])
    assert next(tiles, None) is None


def asked(weights: Tensor, cls: int) -> Tensor:
    """[i, H, rows]: the CLS row's attention, or the mean of all rows' where there is none."""
    return weights[:, :, 0] if cls else weights.mean(2)


def test_tiles_that_are_padded_are_refused():
    model, inputs = FAMILIES["smolvlm"]()
    mask = torch.ones(2, 4, 28, 28, dtype=torch.bool)
    given = {**inputs, "pixel_attention_mask": mask}
    (expected, _), _ = pruned(generated, get_method("hiprune"), model, inputs)
    (found, _), _ = pruned(generated, get_method("hiprune"), model, given)
    assert torch.equal(expected, found)
    mask[0, 0, 14:] = False
    pruned(generated, get_method("fastv"), model, given)
    with pytest.raises(PruningError, match="whose images are padded; let its processor cut them"):
        pruned(generated, get_method("hiprune"), model, given)
