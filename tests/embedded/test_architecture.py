"""The model is LLaVA-1.5 in small, and a saved one loads by the Auto classes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from harness.embedded import architecture, benchmark
from harness.embedded.questions import ASSISTANT, BEGIN, END, IMAGE, PAD, USER, WORDS, word_ids
from harness.embedded.training import batches


@pytest.fixture(scope="module")
def tiny() -> LlavaForConditionalGeneration:
    return architecture.build_tiny()


@pytest.fixture(scope="module")
def saved(tiny: LlavaForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    architecture.save(tiny, directory)
    return directory


def _prompts(processor, texts: list[str]) -> list[str]:  # type: ignore[no-untyped-def]
    return [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "text", "text": t}, {"type": "image"}]}],
            add_generation_prompt=True,
        )
        for t in texts
    ]


def _inputs(processor, texts: list[str]):  # type: ignore[no-untyped-def]
    images = [benchmark.image(name) for name in benchmark.image_ids()[: len(texts)]]
    return processor(
        text=_prompts(processor, texts),
        images=[[image] for image in images],
        padding=True,
        return_tensors="pt",
    )


def test_chat_template_is_that_of_llava() -> None:
    processor = architecture.processor()
    (prompt,) = _prompts(processor, ["is there a red circle ?"])
    assert prompt == "USER: <image>\nis there a red circle ? ASSISTANT:"
    turns = [
        {"role": "user", "content": "how many rings ?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "how many crosses ?"},
    ]
    text = processor.apply_chat_template(turns, add_generation_prompt=True)
    assert text == "USER: how many rings ? ASSISTANT: 2 </s>USER: how many crosses ? ASSISTANT:"


def test_images_become_576_placeholders_and_padding_is_on_the_left() -> None:
    inputs = _inputs(architecture.processor(), ["how many rings ?", "is there a red circle ?"])
    ids = inputs["input_ids"]
    assert (ids == IMAGE).sum(1).tolist() == [576, 576]
    assert inputs["pixel_values"].shape == (2, 3, 168, 168)
    assert ids[0, :2].tolist() == [PAD, PAD]
    assert ids[1, :3].tolist() == [BEGIN, USER, IMAGE]
    question = word_ids("is there a red circle ?")
    assert ids[1, 578:].tolist() == [*question, ASSISTANT]
    assert inputs["attention_mask"][0, :3].tolist() == [0, 0, 1]


def test_training_and_processor_see_the_same_tokens_and_pixels() -> None:
    from harness.embedded.training.objectives import pixel_values

    processor = architecture.processor()
    batch = next(batches.validation_batches(1, 1))
    ids = batch.ids[0]
    text = processor.tokenizer.decode(ids[: list(ids).index(ASSISTANT)])
    prompt = _prompts(processor, [text])
    inputs = processor(text=prompt, images=[[batch.pixels[0]]], return_tensors="pt")
    after_image = inputs["input_ids"][0, 578:].tolist()
    assert after_image == ids[: len(after_image)].tolist()
    assert batch.targets[0, len(after_image) - 1] >= 0
    assert batch.targets[0, len(after_image)] == END
    expected = pixel_values(batch, torch.device("cpu"))
    torch.testing.assert_close(inputs["pixel_values"], expected, atol=1e-5, rtol=0)


def test_question_marks_need_no_space() -> None:
    tokenizer = architecture.tokenizer()
    assert tokenizer("how many rings?")["input_ids"] == [BEGIN, *word_ids("how many rings ?")]
    assert tokenizer.decode(word_ids("top-left")) == "top-left"
    assert len(tokenizer) == len(WORDS)


def test_shipped_size_fits_and_keeps_the_published_depth() -> None:
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(architecture.configuration(architecture.SHIPPED))
    assert sum(p.numel() for p in model.parameters()) * 2 < 25_000_000
    config = model.config
    assert config.text_config.num_hidden_layers == 32
    assert (config.vision_feature_layer, config.vision_feature_select_strategy) == (-2, "default")


def test_tiny_is_small_the_same_every_time_and_leaves_the_random_state(
    tiny: LlavaForConditionalGeneration,
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    again = architecture.build_tiny()
    assert torch.equal(torch.rand(1), expected)
    for a, b in zip(tiny.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert sum(p.numel() for p in tiny.parameters()) * 2 < 1_000_000
    assert len(tiny.model.language_model.layers) == 32


def test_tiny_generates_and_looks_at_the_image(tiny: LlavaForConditionalGeneration) -> None:
    inputs = _inputs(architecture.processor(), ["how many rings ?"] * 4)
    out = tiny.generate(**inputs, max_new_tokens=3, min_new_tokens=3)
    assert out.shape == (4, inputs["input_ids"].shape[1] + 3)
    with torch.no_grad():
        logits = tiny(**inputs).logits[:, -1]
    assert logits.std(0).max() > 0.05


def test_saved_directory_loads_by_the_auto_classes(
    tiny: LlavaForConditionalGeneration, saved: Path
) -> None:
    processor = AutoProcessor.from_pretrained(saved)
    model = AutoModelForImageTextToText.from_pretrained(saved)
    assert type(model) is LlavaForConditionalGeneration
    assert model.dtype == torch.bfloat16
    assert processor.tokenizer.padding_side == "left"
    assert (saved / "model.safetensors").is_file()
    mine, theirs = tiny.state_dict(), model.state_dict()
    assert all(torch.equal(mine[n].bfloat16(), theirs[n]) for n in mine)
    texts = ["where is the red ring ?", "how many rings ?"]
    ours, loaded = _inputs(architecture.processor(), texts), _inputs(processor, texts)
    assert all(np.array_equal(ours[name], loaded[name]) for name in ours)


def test_the_package_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "lmms_eval", "pyarrow", "PIL", "pandas")
    code = (
        "import sys, harness.embedded as e; e.checkpoint_path(); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
