"""The pruning side of a prefill at the size of LLaVA-1.5-7B: everything but the model's own layers.

What runs is the runtime's own code: views, selections, cuts, masks and angles, between layers that
hand their states on as they are. States, keys and queries are random, the projector is real.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from shapes import LLAVA_7B, ONE_IMAGE
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaRotaryEmbedding,
)
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from methods import Budget, Method, stages, tower
from methods.adapters.llava import LlavaAdapter
from methods.attention import QueriesKeys
from methods.encoder_calls import EncoderCalls
from methods.generation import Generation
from methods.tower import TowerPass
from methods.tower_recording import TowerRecording, place_of

TEXT = 40
TOWER = 24
USED = TOWER - 2
IMAGE = 1


class SilentClock:
    def start(self, phase: str) -> None: ...

    def stop(self, phase: str) -> None: ...


class Layers:
    """A LLaVA-1.5-7B without data, but for what pruning runs: a decoder layer that stands for all
    of them, the projector and the angles.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        text = LlamaConfig(
            hidden_size=LLAVA_7B.hidden_size,
            intermediate_size=LLAVA_7B.intermediate_size,
            num_hidden_layers=LLAVA_7B.layers,
            num_attention_heads=LLAVA_7B.attention_heads,
        )
        vision = CLIPVisionConfig(
            hidden_size=LLAVA_7B.tower_width,
            intermediate_size=LLAVA_7B.tower_intermediate,
            num_hidden_layers=TOWER,
            num_attention_heads=LLAVA_7B.tower_heads,
            image_size=336,
            patch_size=14,
        )
        config = LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=IMAGE,
            attn_implementation="sdpa",
        )
        with torch.device("meta"):
            model = LlavaForConditionalGeneration(config)
        decoder, rotary = model.get_decoder(), LlamaRotaryEmbedding(text).to(device)
        self.layer = LlamaDecoderLayer(text, 0).to(device, dtype)
        decoder.layers = nn.ModuleList([self.layer] * LLAVA_7B.layers)
        decoder.norm, decoder.rotary_emb = self.layer.input_layernorm, rotary
        model.model.multi_modal_projector = LlavaMultiModalProjector(config).to(device, dtype)
        self.adapter = LlavaAdapter(model)
        self.projected = model.model.multi_modal_projector.linear_1.weight


@dataclass
class PrunedPrefill:
    """One method at a budget on a batch of prompts with one image each."""

    layers: Layers
    method: Method
    budget: int
    hidden: Tensor
    ids: Tensor
    attended: QueriesKeys
    tower: TowerRecording

    @classmethod
    def of(cls, layers: Layers, method: Method, budget: int, batch: int) -> PrunedPrefill:
        weight = layers.projected
        read = {place_of(read, TOWER, USED)[1] for read in method.tower_reads}
        random = torch.Generator(weight.device).manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(
                shape, generator=random, device=weight.device, dtype=torch.float32
            ).to(weight.dtype)

        length = LLAVA_7B.image_tokens + TEXT
        ids = torch.full((batch, length), 5, device=weight.device)
        ids[:, 4 : 4 + LLAVA_7B.image_tokens] = IMAGE
        heads = (batch, LLAVA_7B.attention_heads, length, LLAVA_7B.head_dim)
        of_tower = (batch, LLAVA_7B.tower_heads, LLAVA_7B.tower_rows, 64)
        return cls(
            layers,
            method,
            budget,
            draw(batch, length, LLAVA_7B.hidden_size),
            ids,
            QueriesKeys(draw(*heads), draw(*heads), LLAVA_7B.head_dim**-0.5),
            TowerRecording(
                draw(batch, LLAVA_7B.tower_rows, LLAVA_7B.tower_width),
                {
                    layer: QueriesKeys(draw(*of_tower), draw(*of_tower), 64**-0.5)
                    for layer in read | {USED}
                },
                TOWER,
                USED,
                has_cls=True,
            ),
        )

    @torch.no_grad()
    def run(self) -> Generation:
        """All that pruning adds to a prefill."""
        adapter = self.layers.adapter
        calls = EncoderCalls(adapter)
        calls.encoded["image"] = [ONE_IMAGE.segments] * len(self.ids)
        generation = Generation(adapter, SilentClock(), self.method, calls)
        start = {"inputs_embeds": self.hidden}
        generation.plan(Budget(self.budget), None, None, self.ids, start)
        inside = self._inside_tower(generation) if self.method.inside_tower else None
        kwargs = generation.enter_prefill(self.tower, start, inside)
        hidden, positions = kwargs["inputs_embeds"], generation.cutting.run.positions
        angles = {"position_embeddings": adapter.rotary(hidden, positions)}
        for layer in range(LLAVA_7B.layers):
            changed = generation.before_layer(layer, (hidden,), angles)
            hidden = hidden if changed is None else changed[0][0]
            if generation.cutting.is_read(layer):
                generation.observe(layer, self._attended(hidden.shape[1]))
        return generation

    def _inside_tower(self, generation: Generation) -> TowerPass:
        """The stages between layers of the tower that hand their rows on as they are."""
        samples = len(generation.prefill.sizes)
        inside = TowerPass(
            self.layers.adapter,
            SilentClock(),
            self.method.name,
            generation.prefill.sizes,
            generation.prefill.plans,
            range(samples),
        )
        hidden, attended = self.tower.features, self.tower.attended[USED]
        for layer in range(LLAVA_7B.tower_layers):
            inside.enter_layer(layer, (hidden,), {})
            keys = attended.keys[:, :, : hidden.shape[1]]
            inside.observe(layer, QueriesKeys(attended.queries, keys, attended.scaling, keys))
            states = inside.enter_mlp(layer, hidden)
            inside.leave_mlp(torch.zeros_like(states))
            hidden = inside.leave_layer(layer, states)
        return inside

    def _attended(self, length: int) -> QueriesKeys:
        q, k = (part[:, :, :length] for part in (self.attended.queries, self.attended.keys))
        return QueriesKeys(q, k, self.attended.scaling)

    @torch.no_grad()
    def run_layer(self) -> Tensor:
        """One decoder layer on the unpruned sequence."""
        positions = torch.arange(self.hidden.shape[1], device=self.hidden.device)[None]
        angles = self.layers.adapter.rotary(self.hidden, positions)
        out = self.layers.layer(self.hidden, position_embeddings=angles)
        return out[0] if isinstance(out, tuple) else out


@contextmanager
def host_reads() -> Iterator[list[str]]:
    """The operations that read a tensor's values on the host, as they happen.

    On a GPU each of them would wait for the device. Checks of a cut's values are left out: the
    runtime makes them on a CPU only.
    """
    found: list[str] = []
    listed = torch.Tensor.tolist

    def tolist(tensor: Tensor) -> Any:
        found.append("tolist")
        return listed(tensor)

    with (
        patch.object(torch.Tensor, "tolist", tolist),
        patch.object(stages, "_check", lambda *_: None),
        patch.object(tower, "_check", lambda *_: None),
        _Reads(found),
    ):
        yield found


class _Reads(TorchDispatchMode):
    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal")

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if name in self.WAITING or masked:
            self.found.append(name)
        return func(*args, **(kwargs or {}))
