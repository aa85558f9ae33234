"""Index for index, token for token: what the published code selects and outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods import Budget, attach, get_method


def generate(model, published, method, budget):
    ids = torch.from_numpy(published["input_ids"]).long()
    with attach(model, method, Budget(budget)) as trace:
        out = model.generate(
            input_ids=ids,
            pixel_values=torch.from_numpy(published["pixel_values"]),
            max_new_tokens=5,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return out.sequences[0, ids.shape[1] :], torch.stack(out.logits, 1)[0], trace.prefills[-1]


def assert_same_output(published, run, tokens, logits):
    assert tokens.tolist() == published[f"{run}/tokens"].tolist()
    np.testing.assert_allclose(logits.numpy(), published[f"{run}/logits"], atol=1e-4, rtol=0)


def anchors(prefill):
    return {s.stage: s.cut.anchors[0].numpy() for s in prefill.selections}


def test_unpruned(tiny_llava, published):
    tokens, logits, prefill = generate(tiny_llava, published, get_method("unpruned"), 64)
    assert_same_output(published, "none", tokens, logits)
    assert (prefill.entering == 576).all()


@pytest.mark.parametrize("budget", [192, 64])
def test_fastv(tiny_llava, published, budget):
    tokens, logits, prefill = generate(tiny_llava, published, get_method("fastv"), budget)
    run = f"fastv-{budget}"
    np.testing.assert_array_equal(anchors(prefill)["rank"], published[f"{run}/kept"])
    assert_same_output(published, run, tokens, logits)


@pytest.mark.parametrize("budget", [192, 64])
def test_vitcop(tiny_llava, published, budget):
    tokens, logits, prefill = generate(tiny_llava, published, get_method("vitcop"), budget)
    run, kept = f"vitcop-{budget}", anchors(prefill)
    np.testing.assert_array_equal(kept["vision"] - 1, published[f"{run}/stage1"])
    np.testing.assert_array_equal(kept["deep"], published[f"{run}/stage3"])
    np.testing.assert_array_equal(kept["shallow"], published[f"{run}/stage2_pos"])
    shallow = next(s for s in prefill.selections if s.stage == "shallow")
    merged = shallow.cut.add_anchor[0].numpy()
    np.testing.assert_array_equal(kept["shallow"][~merged], np.sort(published[f"{run}/sel"]))
    np.testing.assert_array_equal(kept["shallow"][merged], np.sort(published[f"{run}/mpos"]))
    assert_same_output(published, run, tokens, logits)


@pytest.mark.parametrize("name", ["vitcop", "fastv", "random", "uniform"])
@pytest.mark.parametrize("budget", [192, 128, 64])
def test_counted_tokens_are_within_one_of_the_request(tiny_llava, published, name, budget):
    ids = torch.from_numpy(published["input_ids"]).long()
    with attach(tiny_llava, get_method(name), Budget(budget)) as trace, torch.no_grad():
        tiny_llava(input_ids=ids, pixel_values=torch.from_numpy(published["pixel_values"]))
    prefill = trace.prefills[-1]
    assert torch.equal(prefill.entering, prefill.planned)
    assert abs(prefill.entering.float().mean() - budget) <= 1
    assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])
