"""A generation on the tiny LLaVA, to be held against what the published code does there."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import torch

from methods import Budget, attach


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


def assert_same_output(published, run, tokens, logits, atol=1e-4):
    assert tokens.tolist() == published[f"{run}/tokens"].tolist()
    np.testing.assert_allclose(logits.numpy(), published[f"{run}/logits"], atol=atol, rtol=0)


def anchors(prefill):
    return {s.stage: s.cut.anchors[0].numpy() for s in prefill.selections}


def recorded(method, seen):
    """The method with stages that leave what they saw and selected in `seen`, by name."""

    class Recorded(type(method)):
        def solve(self, budget, sizes):
            plan = super().solve(budget, sizes)
            return replace(
                plan,
                encoder=tuple(map(listening, plan.encoder)),
                decoder=tuple(map(listening, plan.decoder)),
            )

    def listening(stage):
        def select(view):
            seen[stage.name] = view, stage.select(view)
            return seen[stage.name][1]

        return replace(stage, select=select)

    return Recorded(**asdict(method))
