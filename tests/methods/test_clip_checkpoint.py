"""A CLIP checkpoint beside the model, and the method that asks it of patches and text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from contract import generate
from published_runs import anchors, assert_same_output
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel

from harness.records.cell import Cell
from methods import Budget, PruningError, attach, get_method, relevance
from methods.clip_checkpoint import SEGMENT, Clip, clip_of
from methods.flops import selection_flops
from methods.relevance import what_is_asked

CPU, WORDS = torch.device("cpu"), "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """As wide as the tiny LLaVA's tower; words are letters."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    side = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**side, "hidden_size": 32, "vocab_size": 60, "bos_token_id": 58, "eos_token_id": 2}
    vision = {**side, "hidden_size": 48, "image_size": 28, "patch_size": 14}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    CLIPModel(config).save_pretrained(folder)
    letters = [*WORDS, *(f"{letter}</w>" for letter in WORDS)]
    vocabulary = {word: number for number, word in enumerate(["!", *letters])}
    vocabulary |= {"<|startoftext|>": 58, "<|endoftext|>": 59}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>"})
    )
    return folder


@pytest.fixture
def prompt(published):
    return {
        "input_ids": torch.from_numpy(published["input_ids"]).long(),
        "pixel_values": torch.from_numpy(published["pixel_values"]),
    }


class OfFixture(Clip):
    """The published run's embeddings of the text, and of patches by its projection."""

    def __init__(self, model, stored, run):
        self.model, self.stored, self.run = model, stored, run

    def of_text(self, text):
        assert text == "what is this ?"
        return torch.from_numpy(self.stored[f"{self.run}/text_embeds"])

    def of_patches(self, features):
        parts = self.model.model.vision_tower.named_modules()
        (norm,) = (part for name, part in parts if name.endswith("post_layernorm"))
        projection = torch.from_numpy(self.stored["visual_projection"])
        with torch.no_grad():
            embeddings = norm(features) @ projection.T
        expected = self.stored[f"{self.run}/image_embeds"]
        np.testing.assert_allclose(embeddings[0].numpy(), expected, atol=1e-4)
        return embeddings


@pytest.mark.parametrize("budget", [48, 16])
def test_cdpruner_by_clip_keeps_what_its_published_code_does(
    tiny_llava, published, more_published, prompt, checkpoint, monkeypatch, budget
):
    run = f"cdpruner-{budget}"
    clip = OfFixture(tiny_llava, more_published, run)
    monkeypatch.setattr(relevance, "clip_of", lambda directory, device: clip)
    method = get_method("cdpruner", relevance="clip", clip=str(checkpoint))
    question = "what is this ?\nAnswer with one word."
    with attach(tiny_llava, method, Budget(budget), questions=[question]) as trace:
        out = tiny_llava.generate(
            **prompt,
            max_new_tokens=5,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    kept = anchors(trace.prefills[-1])["diverse"]
    np.testing.assert_array_equal(kept, more_published[f"{run}/kept"])
    eager = tiny_llava.config._attn_implementation == "eager"
    tokens, logits = out.sequences[0, prompt["input_ids"].shape[1] :], torch.stack(out.logits, 1)[0]
    assert_same_output(more_published, run, tokens, logits, 1e-4 if eager else 2e-3)


def test_a_long_text_is_read_in_segments(checkpoint):
    clip = clip_of(str(checkpoint), CPU)
    short, long = clip.of_text("a b c"), clip.of_text(" ".join(WORDS * 4))
    assert short.shape == (1, 24)
    assert long.shape == (2, 24)
    masked = clip.tokenizer("a b c", padding="max_length", max_length=SEGMENT, return_tensors="pt")
    with torch.no_grad():
        pooled = clip.model.text_model(**masked).pooler_output
    torch.testing.assert_close(short, clip.model.text_projection(pooled))
    ids = clip.tokenizer(" ".join(WORDS * 4))["input_ids"]
    with torch.no_grad():
        tower = clip.model.text_model
        states = tower(input_ids=torch.tensor([ids[:SEGMENT]])).last_hidden_state[0]
        pooled = clip.model.text_projection(states[int(np.argmax(ids[:SEGMENT]))])
    torch.testing.assert_close(long[0], pooled)


def test_likeness_is_that_of_clip_itself(checkpoint):
    clip = clip_of(str(checkpoint), CPU)
    features = torch.randn(1, 5, 48)
    with torch.no_grad():
        image = clip.model.visual_projection(clip.model.vision_model.post_layernorm(features))
    cosines = normalize(image, dim=-1) @ normalize(clip.of_text("a b"), dim=-1).T
    torch.testing.assert_close(clip.likeness(features, ["a b"]), cosines[..., 0])


def test_another_question_keeps_other_tokens(tiny_llava, prompt, checkpoint):
    method = get_method("cdpruner", relevance="clip", clip=str(checkpoint))
    kept = []
    for question in ("a b c", "a b c\nhow to answer", "x y z"):
        with attach(tiny_llava, method, Budget(32), questions=[question]) as trace:
            tiny_llava.generate(**prompt, max_new_tokens=1)
        kept.append(anchors(trace.prefills[-1])["diverse"].tolist())
    assert kept[0] == kept[1] != kept[2]


def test_without_the_questions_it_says_what_it_needs(tiny_llava, prompt, checkpoint):
    method = get_method("cdpruner", relevance="clip", clip=str(checkpoint))
    with pytest.raises(PruningError, match=r"reads the questions: attach\(\.\.\., questions="):
        generate(tiny_llava, prompt, method, Budget(32))


def test_as_many_questions_as_samples(tiny_llava, prompt):
    with (
        pytest.raises(PruningError, match="2 questions were given for 1 samples"),
        attach(tiny_llava, get_method("uniform"), Budget(32), questions=["a", "b"]),
    ):
        tiny_llava.generate(**prompt, max_new_tokens=1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"relevance": "clip"}, "relevance=clip and clip=DIRECTORY go together"),
        ({"clip": "/nowhere"}, "relevance=clip and clip=DIRECTORY go together"),
        (
            {"relevance": "clip", "clip": "/nowhere"},
            "/nowhere is no CLIP checkpoint: it has no config.json, no model.safetensors, no tok",
        ),
    ],
)
def test_settings_that_do_not_fit(settings, said):
    with pytest.raises(PruningError, match=said):
        get_method("cdpruner", **settings)


def test_a_record_names_what_the_checkpoint_holds(checkpoint, tmp_path):
    cells = [Cell.parse(f"cdpruner:clip={checkpoint}:relevance=clip@64")]
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in checkpoint.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    cells.append(Cell.parse(f"cdpruner:clip={moved}:relevance=clip@64"))
    one, other = (cell.identity()["settings"] for cell in cells)
    assert one == other
    assert str(tmp_path) not in json.dumps(other)
    changed = tmp_path / "changed"
    moved.rename(changed)
    (changed / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    third = Cell.parse(f"cdpruner:clip={changed}:relevance=clip@64").identity()["settings"]
    assert third != one


def test_the_text_towers_flops_are_counted(checkpoint):
    from shapes import LLAVA_7B, ONE_IMAGE

    from methods.sizes import ModelShape

    shape = ModelShape(**{**vars(LLAVA_7B), "tower_width": 48})
    by_text = get_method("cdpruner").plan(Budget(64), ONE_IMAGE)
    by_clip = get_method("cdpruner", relevance="clip", clip=str(checkpoint))
    plan = by_clip.plan(Budget(64), ONE_IMAGE)
    more = selection_flops(plan, ONE_IMAGE, shape, 32) - selection_flops(
        by_text, ONE_IMAGE, shape, 32
    )
    # the text tower's layers over 77 tokens, at the least
    assert more + 2 * 576 * 33 * 4096 > 2 * 77 * 2 * 4 * 32 * 32


def test_what_is_asked():
    assert what_is_asked("what ?\nAnswer with a word.") == "what ?"
    assert what_is_asked("context\nwhat ?\nAnswer.\n") == "context\nwhat ?"
    assert what_is_asked("what ?") == "what ?"
