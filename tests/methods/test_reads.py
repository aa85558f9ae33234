"""What a stage reads is what the model computes, next to padding too."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from small_models import IMAGE, small_llava

from methods import Budget, Cut, DecoderStage, EncoderStage, Method, Plan, Selection, attach
from methods.interface import OfLayer, Read

DECODER = (
    *(Read.HIDDEN, Read.PREVIOUS_HIDDEN, Read.NORMED_HIDDEN, Read.NORMED_TEXT, Read.KEYS),
    *(Read.TEXT_KEYS, Read.UNROTATED_KEYS, Read.UNROTATED_QUERY, Read.VISUAL_ATTENTION),
)
LAYER = 3
FIRST, LAST = lambda layers: 0, lambda layers: layers - 1
TOWER = (
    *(OfLayer(read, FIRST) for read in (Read.CLS_ATTENTION, Read.RECEIVED_ATTENTION)),
    *(OfLayer(read, LAST) for read in (Read.CLS_QUERY, Read.TOWER_KEYS)),
    *(Read.RECEIVED_ATTENTION, Read.CLS_ATTENTION),
)


@dataclass(frozen=True)
class Looking(Method):
    """Keeps what its stages see, by where they lie, and all but the last visual token."""

    seen: dict = field(compare=False)
    name = label = "looking"
    tower_reads = TOWER

    def solve(self, budget, sizes):
        def in_tower(view):
            self.seen["tower"] = view
            return Selection()

        def in_decoder(view):
            self.seen["decoder"] = view
            kept = torch.arange(view.count - 1).expand(len(view.segments), -1)
            return Selection(Cut(kept))

        entering = (sizes.tokens,) * LAYER + (sizes.tokens - 1,) * (sizes.layers - LAYER)
        return Plan(
            entering,
            encoder=(EncoderStage("tower", TOWER, in_tower),),
            decoder=(DecoderStage("decoder", LAYER, DECODER, in_decoder),),
        )


@pytest.fixture(scope="module")
def watched(prompts):
    """The views of a padded batch, and what hooks saw in the unpruned model, by module name."""
    model, inputs, seen, passed = small_llava("eager"), prompts.batch(0, 1), {}, {}
    names = ("self_attn", "q_proj", "k_proj")
    handles = [
        module.register_forward_hook(lambda _, args, out, name=name: passed.update({name: out}))
        for name, module in model.named_modules()
        if name.endswith(names)
    ]
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True, output_attentions=True)
        for handle in handles:
            handle.remove()
        with attach(model, Looking(seen), Budget(63)) as trace:
            model(**inputs)
    assert torch.equal(trace.prefills[-1].entering, trace.prefills[-1].planned)
    return model, inputs, seen, passed, out


def same(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("row", [0, 1])
def test_the_decoders(watched, row):
    model, inputs, seen, passed, out = watched
    view, layer = seen["decoder"], f"model.language_model.layers.{LAYER - 1}.self_attn"
    visual = inputs["input_ids"][row] == IMAGE
    states = out.hidden_states[LAYER][row]
    same(view[Read.HIDDEN][row], states[visual])
    same(view[Read.PREVIOUS_HIDDEN][row], out.hidden_states[LAYER - 1][row, visual])
    same(view[Read.NORMED_HIDDEN][row], model.model.language_model.norm(states)[visual])
    text = inputs["attention_mask"][row].bool() & ~visual
    normed = model.model.language_model.norm(states[text])
    same(view[Read.NORMED_TEXT][row, -1 - len(normed) :], torch.cat([normed, normed[-1:]]))
    keys = passed[f"{layer}.k_proj"][row].unflatten(-1, (-1, 8)).transpose(0, 1)
    same(view[Read.UNROTATED_KEYS][row], keys[:, visual])
    query = passed[f"{layer}.q_proj"][row, -1].unflatten(-1, (-1, 8))
    same(view[Read.UNROTATED_QUERY][row], query)
    attention = out.attentions[LAYER - 1][row]
    same(view[Read.VISUAL_ATTENTION][row], attention[:, visual][:, :, visual])
    # rotation keeps lengths
    same(view[Read.KEYS][row].norm(dim=-1), keys[:, visual].norm(dim=-1))
    same(
        view[Read.TEXT_KEYS][row, :, -1 - len(normed) : -1].norm(dim=-1), keys[:, text].norm(dim=-1)
    )


def test_the_towers_named_layers(watched):
    _, _, seen, passed, _ = watched
    view, layers = seen["tower"], "model.vision_tower"
    names = [name for name in passed if name.startswith(layers) and name.endswith("self_attn")]
    assert len(names) == 3
    first, used = (passed[names[i]][1] for i in (0, 1))
    same(view[TOWER[0]], first[:, :, 0, 1:])
    same(view[TOWER[1]], first.mean(2)[..., 1:])
    same(view[TOWER[2]], passed[f"{names[2]}.q_proj"][:, :1])
    same(view[TOWER[3]], passed[f"{names[2]}.k_proj"])
    same(view[Read.RECEIVED_ATTENTION], used.mean(2)[..., 1:])
    same(view[Read.CLS_ATTENTION], used[:, :, 0, 1:])


def test_nothing_but_what_is_read_is_shown(watched):
    _, _, seen, _, _ = watched
    assert set(seen["decoder"].reads) == set(DECODER)
    assert set(seen["tower"].reads) == set(TOWER)
