"""Methods made for video, index for index with their published code on random features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines import dycoke, fastvid, framefusion, vidcom2
from methods import PruningError
from methods.segmenting import likeness, segments_of

FIXTURES = Path(__file__).parents[1] / "fixtures" / "video"


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    """By METHOD/NAME, of features [F, T, d] that all have."""
    found: dict[str, np.ndarray] = {}
    for file in FIXTURES.glob("*.npz"):
        with np.load(file) as arrays:
            found |= {key.removeprefix("a/"): arrays[key] for key in arrays.files}
    return found


@pytest.fixture(scope="module")
def features(stored) -> Tensor:
    return torch.from_numpy(stored["features"])


@pytest.mark.parametrize("share", [0.25, 0.15, 0.5])
def test_vidcom2(stored, features, share):
    run = f"vidcom2-{share}"
    found = vidcom2.kept(features, share)
    np.testing.assert_array_equal(found.numpy(), stored[f"{run}/kept"])
    scores = of_video, _ = vidcom2.likeness(features[None])
    for own, name in zip(scores, ("video", "frame"), strict=True):
        np.testing.assert_allclose(own[0], stored[f"{run}/{name}_score"], atol=1e-6)
    shares = vidcom2.shares(of_video, share)
    np.testing.assert_allclose(shares[0], stored[f"{run}/scales"], atol=1e-6)


def test_vidcom2_deals_what_its_code_rounds(stored, features):
    """Where rounding happens to come out even, both keep the same."""
    wanted = vidcom2.shares(vidcom2.likeness(features[None])[0], 0.25) * 36
    expected = stored["vidcom2-0.25/per_frame"]
    assert vidcom2.dealt(wanted, 36, int(expected.sum()))[0].tolist() == expected.tolist()
    for total in (8, 9, 71, 200, 287):
        counts = vidcom2.dealt(wanted * total / 72, 36, total)
        assert (int(counts.sum()), int(counts.min()) >= 1) == (total, True)
        assert counts.max() <= 36
    uneven = torch.tensor([[35.9, 40.0, 0.2, 1.5]])
    assert vidcom2.dealt(uneven, 36, 74)[0].tolist() == [36, 36, 1, 1]


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7, 0.9])
def test_dycoke(stored, features, ratio):
    found = dycoke.kept(features, ratio)
    np.testing.assert_array_equal(found.numpy(), stored[f"dycoke-{ratio}/kept"])


def test_dycoke_drops_an_odd_last_frame_and_takes_no_four(features):
    odd = dycoke.kept(features[:7], 0.7)
    assert torch.equal(odd, dycoke.kept(features[:6], 0.7))
    with pytest.raises(PruningError, match="5 frames or more, not 4"):
        dycoke.kept(features[:4], 0.7)


@pytest.mark.parametrize("settings", ["0.25-c3", "0.5-c4", "0.3-c8", "0.35-c2"])
@pytest.mark.parametrize("variant", ["onevision", "qwen", "qwen-ignore"])
def test_fastvid(stored, features, variant, settings):
    run = f"fastvid-{variant}-{settings}"
    attention, of_frames = (torch.from_numpy(stored[name]) for name in ("attention", "global"))
    share, fewest, threshold, context, step, *rest = stored[f"{run}/settings"].tolist()
    found, merged = fastvid.compress(
        *(features, attention, of_frames),
        *(share, int(fewest), threshold, context, int(step), *rest),
    )
    before, after = (torch.from_numpy(stored[name]) for name in ("before", "after"))
    first, last = len(before), len(before) + features[..., 0].numel()
    rows = torch.cat([torch.arange(first), first + found, last + torch.arange(len(after))])
    np.testing.assert_array_equal(rows.numpy(), stored[f"{run}/kept"])
    hidden = torch.cat([before, merged, after])
    np.testing.assert_allclose(hidden.numpy(), stored[f"{run}/hidden"], atol=1e-5)


@pytest.mark.parametrize("settings", ["0.25-c3", "0.5-c4", "0.3-c8", "0.35-c2"])
def test_segments_of_fastvid(stored, settings):
    run = f"fastvid-onevision-{settings}"
    _, fewest, threshold, *_ = stored[f"{run}/settings"].tolist()
    alike = likeness(torch.from_numpy(stored["global"])[None])
    segments = segments_of(alike, int(fewest), threshold)
    assert segments[0].bincount().tolist() == stored[f"{run}/segments"].tolist()


THRESHOLDS = {"0.3": 0.6, "0.5": 0.8, "0.15": 0.95, "0.7": 0.6}
"""Of likeness, by the cost of a run."""


@pytest.mark.parametrize("cost", THRESHOLDS)
def test_framefusion(stored, features, cost):
    """Layer after layer: merging, once more, and then pruning; or merging all at once."""
    run, before, after = f"framefusion-{cost}", len(stored["before"]), len(stored["after"])
    hidden, places = features.flatten(0, 1), torch.arange(36).repeat(8)
    rows, shares = torch.arange(len(hidden)), ()
    last = before + len(hidden)
    for layer in range(1 if cost == "0.7" else 3):
        of = f"{run}/{layer}"
        attention = torch.ones(1, len(hidden))
        if str(stored[f"{of}/kind"]) == "prune":
            weights = torch.from_numpy(stored[f"{of}/attention"])
            attention = weights[0, :, -1, before : before + len(hidden)]
        found = framefusion.step(hidden, places, shares, attention, float(cost), THRESHOLDS[cost])
        rows = rows[found.kept]
        sequence = [torch.arange(before), before + rows, last + torch.arange(after)]
        np.testing.assert_array_equal(torch.cat(sequence), stored[f"{of}/kept"])
        np.testing.assert_allclose(found.shares, stored[f"{of}/sparsity"])
        if f"{of}/hidden" in stored:
            expected = stored[f"{of}/hidden"][before : before + len(rows)]
            np.testing.assert_allclose(found.hidden, expected, atol=1e-5)
        hidden, places, shares = found.hidden, places[found.kept], found.shares
    assert found.finished


def test_framefusion_needs_what_its_cost_leaves():
    assert framefusion.need((), 0.3) == pytest.approx(0.7)
    assert framefusion.need((0.7,), 0.3) == pytest.approx(0)
    assert framefusion.need((0.5,), 0.3, layers=10) == pytest.approx(1 - 2.5 / 4.5)
    with pytest.raises(PruningError, match=r"8\.48 layers' tokens are spent of 0\.3 in each of 28"):
        framefusion.need((0.1,) * 27, 0.3)
