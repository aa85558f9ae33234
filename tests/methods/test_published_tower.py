"""Stages inside the vision tower: what the published code keeps, and outputs, on `tiny-llava`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods import Budget, attach, get_method

RUNS = [
    ("flowcut", "flowcut-192", {}, 192),
    ("flowcut", "flowcut-64", {}, 64),
    ("tome", "tome-192", {}, 192),
    ("tome", "tome-64", {"r": "150+130+100+80+52"}, 64),
    ("tome", "tome-50", {"schedule": "published", "r": 200}, 50),
]


@pytest.mark.parametrize(("name", "run", "settings", "budget"), RUNS)
def test_rows_tokens_and_logits(tiny_llava, published, published_more, name, run, settings, budget):
    stored = {k.removeprefix(f"0/{run}/"): v for k, v in published_more(name).items() if run in k}
    ids, projected = torch.from_numpy(published["input_ids"]).long(), []
    handle = tiny_llava.model.multi_modal_projector.register_forward_pre_hook(
        lambda _, args: projected.append(args[0])
    )
    with attach(tiny_llava, get_method(name, **settings), Budget(budget)) as trace:
        out = tiny_llava.generate(
            input_ids=ids,
            pixel_values=torch.from_numpy(published["pixel_values"]),
            max_new_tokens=5,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    handle.remove()
    prefill = trace.prefills[-1]
    rows = [attention for attention, _ in prefill.tower_rows[0][0]]
    assert rows == stored["tower_rows"].tolist()[:6]
    features = stored["features"][name == "tome" :]  # the stored ones of ToMe begin with CLS
    close(projected[0][0], features, 1e-4)
    assert (prefill.entering == len(features)).all()
    if "kept" in stored:
        np.testing.assert_array_equal(prefill.selections[0].cut.anchors[0] - 1, stored["kept"])
    assert out.sequences[0, ids.shape[1] :].tolist() == stored["tokens"].tolist()
    eager = tiny_llava.config._attn_implementation == "eager"
    close(torch.stack(out.logits, 1)[0], stored["logits"], 1e-4 if eager else 2e-3)


def close(found, expected, atol):
    np.testing.assert_allclose(found.numpy(), expected, atol=atol, rtol=0)
