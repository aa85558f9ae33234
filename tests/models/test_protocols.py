"""Questions as LLaVA-1.5's own code asks them: token ids and pixels, worked out again here."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, normalizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from harness.accuracy.instrument import Accuracy
from harness.cli.app import main
from harness.embedded import benchmark
from harness.embedded.architecture import build_tiny, processor, save
from harness.errors import BadInput
from harness.models.load import LoadedModel, load_model, resolve
from harness.models.protocols import OWN, LlavaProtocol, Protocol, protocol_of
from harness.records.cell import Cell
from harness.run.facts import identity_of

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
TASK = "embedded_count"
MEAN = (122, 116, 104)
"""CLIP's mean colour in whole grey values, rounded down."""
CHARACTERS = sorted({*map(chr, range(33, 127)), "\n", "▁"})
BEGIN = 1


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model("tiny", "cpu", protocol=LlavaProtocol())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "llava"
    save(build_tiny(), directory)
    return directory


def like_llamas() -> PreTrainedTokenizerFast:
    """A token a character; as Llama's, it begins every text with <s> and a space."""
    words = {"<unk>": 0, "<s>": BEGIN, "</s>": 2}
    words |= {character: 3 + i for i, character in enumerate(CHARACTERS)}
    core = Tokenizer(BPE(vocab=words, merges=[], unk_token="<unk>"))
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    core.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def characters(text: str) -> list[int]:
    return [3 + CHARACTERS.index(character) for character in "▁" + text.replace(" ", "▁")]


def asked(model: Any, text: str, images: int) -> tuple[list[int], torch.Tensor | None]:
    """Token ids and pixels of a question about grey images."""
    protocol = LlavaProtocol()
    own = SimpleNamespace(tokenizer=like_llamas(), image_processor=processor().image_processor)
    grey = [Image.new("RGB", (20, 10), (30 * i, 0, 0)) for i in range(images)]
    ids, inputs = protocol.encoded(own, model, protocol.prompt(own, text, images), grey)
    assert ids.dtype == torch.int64
    return ids.tolist(), inputs.get("pixel_values")


def test_the_parts_around_an_image_are_tokenised_each_by_itself(tiny: LoadedModel) -> None:
    """So a space begins the text after the image, and <s> the whole alone."""
    ids, pixels = asked(tiny.model, "Is it red?\nAnswer yes or no.", 1)
    image = [tiny.model.config.image_token_id] * 576
    before = characters(f"{SYSTEM} USER: ")
    after = characters("\nIs it red?\nAnswer yes or no. ASSISTANT:")
    assert ids == [BEGIN, *before, *image, *after]
    assert pixels is not None
    assert pixels.shape == (1, 3, 168, 168)


def test_several_images_stand_before_the_question_with_spaces_between(tiny: LoadedModel) -> None:
    ids, pixels = asked(tiny.model, "same?", 2)
    image = [tiny.model.config.image_token_id] * 576
    parts = (f"{SYSTEM} USER: ", " ", "\nsame? ASSISTANT:")
    before, between, after = map(characters, parts)
    assert ids == [BEGIN, *before, *image, *between, *image, *after]
    assert pixels is not None
    assert len(pixels) == 2


def test_a_text_that_places_its_images_is_left_alone(tiny: LoadedModel) -> None:
    """Images without a place are not shown, and a place without an image is a failure."""
    ids, pixels = asked(tiny.model, "In <image> is what?", 2)
    image = [tiny.model.config.image_token_id] * 576
    before, after = characters(f"{SYSTEM} USER: In "), characters(" is what? ASSISTANT:")
    assert ids == [BEGIN, *before, *image, *after]
    assert pixels is not None
    assert len(pixels) == 1
    with pytest.raises(ValueError, match="has 2 places for 1 images"):
        asked(tiny.model, "<image> or <image>?", 1)


def test_a_question_without_an_image(tiny: LoadedModel) -> None:
    ids, pixels = asked(tiny.model, "why?", 0)
    assert ids == [BEGIN, *characters(f"{SYSTEM} USER: why? ASSISTANT:")]
    assert pixels is None


def by_hand(image: Image.Image, side: int = 168) -> np.ndarray:
    """float32 [3, side, side]: on a canvas of the mean colour, resized in whole grey values."""
    pixels = np.asarray(image.convert("RGB"))
    height, width, _ = pixels.shape
    longest = max(height, width)
    canvas = np.broadcast_to(np.array(MEAN, np.uint8), (longest, longest, 3)).copy()
    top, left = (longest - height) // 2, (longest - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    resized = Image.fromarray(canvas).resize((side, side), Image.Resampling.BICUBIC)
    values = np.asarray(resized).astype(np.float64) / 255
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    deviation = np.array([0.26862954, 0.26130258, 0.27577711])
    return ((values - mean) / deviation).astype(np.float32).transpose(2, 0, 1)


@pytest.mark.parametrize("size", [(168, 168), (300, 200), (101, 202), (201, 100), (7, 400)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_images_are_padded_to_squares(tiny: LoadedModel, size: tuple[int, int], mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(noise, "RGBA").convert(mode)
    protocol = LlavaProtocol()
    prompt = protocol.prompt(tiny.processor, "how many ?", 1)
    _, inputs = protocol.encoded(tiny.processor, tiny.model, prompt, [image])
    pixels = inputs["pixel_values"]
    assert pixels.dtype == torch.float32
    np.testing.assert_allclose(pixels[0].numpy(), by_hand(image), rtol=0, atol=2e-6)
    _, inputs = OWN.encoded(tiny.processor, tiny.model, "<image>", [image])
    cropped = inputs["pixel_values"]
    # the checkpoint's own processor crops the sides away; of a square both make the same
    differs = (cropped[0] - pixels[0]).abs().max().item()
    assert (differs < 0.05) == (size[0] == size[1])


def test_a_comparison_asks_so(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through lmms-eval, to what the model is given."""
    given: list[dict[str, Any]] = []
    generate = tiny.model.generate
    monkeypatch.setattr(
        tiny.model, "generate", lambda **inputs: given.append(inputs) or generate(**inputs)
    )
    runner = Accuracy(tiny, [TASK], limit=2, store_bytes=0)
    result = runner.run(Cell.parse("fastv@64"), TASK)
    assert len(result["samples"]) == len(given) == 2
    # short questions are asked first
    items = sorted(benchmark.items(TASK)[:2], key=lambda item: len(item.question.split()))
    tokenizer = processor().tokenizer
    for item, inputs in zip(items, given, strict=True):
        image = Image.fromarray(benchmark.image(item.image_id))
        assert inputs["pixel_values"].shape == (1, 3, 168, 168)
        np.testing.assert_allclose(inputs["pixel_values"][0], by_hand(image), rtol=0, atol=2e-6)
        words = tokenizer(f"{SYSTEM} USER:")["input_ids"]
        words += [tiny.model.config.image_token_id] * 576
        words += tokenizer(f"{item.question} ASSISTANT:")["input_ids"][1:]
        assert inputs["input_ids"][0].tolist() == words
        assert inputs["do_sample"] is False


def test_only_what_that_code_reads_of_generation_settings_counts() -> None:
    settings = {"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1}
    others = {"until": ["\n\n"], "do_sample": True, "image_aspect_ratio": "original"}
    assert LlavaProtocol().generation({**settings, **others}) == settings
    assert OWN.generation({**settings, **others}) == {**settings, **others}


def test_tasks_word_questions_for_a_model_named_llava() -> None:
    from harness.accuracy.lmms.tasks import TaskLibrary

    for protocol, name, messages in ((OWN, "pruned", True), (LlavaProtocol(), "llava", False)):
        task = TaskLibrary([TASK], protocol).load(TASK)
        assert task.model_name == name
        assert (type(task).__name__ == "ConfigurableMessagesTask") == messages


def test_records_say_which_and_those_of_before_are_as_they_were(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    own = identity_of(load_model("tiny", "cpu"))
    assert not {"protocol", "chat_template"} & set(own)
    assert identity_of(tiny) == {**own, "protocol": "llava"}
    file = tmp_path / "chat.jinja"
    file.write_text("USER: <image>")
    other = load_model("tiny", "cpu", protocol=protocol_of("hf", file))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert identity_of(other) == {**own, "chat_template": digest}
    assert protocol_of("hf") == OWN


TEMPLATE = "{% for m in messages %}{% for c in m.content %}"
TEMPLATE += "{{ '<image>' if c.type == 'image' else c.text }} {% endfor %}{% endfor %}count:"


def test_a_chat_template_of_a_file_replaces_the_checkpoints(whole: Path, tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text(TEMPLATE)
    loaded = load_model(str(whole), "cpu", protocol=protocol_of("hf", file))
    assert loaded.protocol.prompt(loaded.processor, "how ?", 1) == "<image> how ? count:"
    messages = [{"role": "user", "content": [{"type": "text", "text": "why ?"}]}]
    assert loaded.protocol.templated(loaded.processor, messages) == "why ? count:"


@pytest.mark.parametrize("protocol", ["file", "llava"])
def test_a_checkpoint_without_a_chat_template_can_be_asked(
    whole: Path, tmp_path: Path, protocol: str
) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(BadInput, match="--chat-template or --protocol llava is needed"):
        resolve(str(copy), "cpu")
    file = tmp_path / "chat.jinja"
    file.write_text(TEMPLATE)
    asking = protocol_of("hf", file) if protocol == "file" else LlavaProtocol()
    assert resolve(str(copy), "cpu", protocol=asking).placement.dtype == "float32"


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("hello", "has 0 places '<image>'"),
        ("{% if %}", "fails on a question about an image: TemplateSyntaxError"),
        ("<image> {{ raise_exception('planted') }}", "planted"),
    ],
)
def test_a_chat_template_that_cannot_ask(
    whole: Path, tmp_path: Path, template: str, sentence: str, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text(template)
    options = ["--model", str(whole), "--device", "cpu", "-o", str(tmp_path / "out")]
    assert main(["compare", *options, "--chat-template", str(file)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"the chat template {file} " in told
    assert sentence in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--protocol", "lava"], "unknown --protocol 'lava'; did you mean 'llava'?"),
        (["--chat-template", "none.jinja"], "--chat-template none.jinja cannot be read: No such"),
        (["--chat-template", "."], "--chat-template . cannot be read: Is a directory"),
        (["--protocol", "llava", "--chat-template", "x"], "has no effect with --protocol llava"),
        (["--protocol", "llava", "--no-accuracy"], "--protocol has no effect with --no-accuracy"),
    ],
)
def test_options_that_say_nothing(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["compare", "--model", "tiny", "-o", str(tmp_path / "out"), *options]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert sentence in told


def test_a_comparison_by_command_keeps_protocols_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from harness.analysis.frames import load

    out = tmp_path / "out"
    options = ["compare", "--model", "tiny", "--device", "cpu", "-o", str(out)]
    options += ["--tasks", TASK, "--limit", "1", "--methods", "fastv", "--budgets", "64"]
    for protocol in ("hf", "llava", "llava"):
        assert main([*options, "--no-efficiency", "--protocol", protocol]) == 0
    told = capsys.readouterr()
    assert "reused 2 of 2 accuracy records" in told.err
    assert "protocol llava" in told.out
    assert sorted(load(out).protocol) == ["hf", "hf", "llava", "llava"]


def test_lmms_evals_own_command_takes_the_protocol(tmp_path: Path) -> None:
    from harness.accuracy.lmms.model import PrunedModel

    file = tmp_path / "chat.jinja"
    file.write_text(TEMPLATE)
    assert PrunedModel("tiny", device="cpu", protocol="llava").is_simple
    own = PrunedModel("tiny", device="cpu", chat_template=str(file))
    assert not own.is_simple
    assert own.protocol == Protocol(TEMPLATE) == own.answerer.loaded.protocol


def test_the_gate_tells_protocols_apart(tmp_path: Path) -> None:
    from altered_records import answered
    from from_bodies import made, requests_of

    from harness.regress.sources import IncomparableError, answer_pairs

    before = answered()
    after = json.loads(json.dumps(before))
    for record in after:
        record["identity"]["protocol"] = "llava"
    with pytest.raises(IncomparableError, match="protocol"):
        answer_pairs(made(before), made(after))
    assert {request.protocol for request in requests_of(before, tmp_path)} == {OWN}
    assert {request.protocol for request in requests_of(after, tmp_path)} == {LlavaProtocol()}
    after[0]["identity"]["chat_template"] = "ab" * 32
    with pytest.raises(BadInput, match="was asked with a chat template of a file"):
        requests_of(after, tmp_path)
