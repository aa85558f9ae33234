"""Checkpoints as people have them: processors of before 2025, shards, bfloat16, adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from refusals import refused
from safetensors.torch import load_file, save_file

from harness.accuracy.answers import Answerer, Question
from harness.embedded.architecture import build_tiny, save
from harness.models.load import LoadedModel, load_model
from methods import Budget, get_method

COMPLETED = ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "llava"
    save(build_tiny(), directory)
    return directory


@pytest.fixture(scope="module")
def answered(whole: Path) -> str:
    return answer(load_model(str(whole), "cpu"))


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def answer(loaded: LoadedModel) -> str:
    """To one question about noise, pruned by FastV; the same for equal weights and inputs."""
    noise = torch.randint(256, (168, 168, 3), generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(noise.to(torch.uint8).numpy())
    content = [{"type": "image"}, {"type": "text", "text": "how many red objects ?"}]
    text = loaded.processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    answerer = Answerer(loaded, get_method("fastv"), Budget(64))
    question = Question("noise/0", lambda: (text, [image]))
    return answerer.answer([question], {"max_new_tokens": 6})[0].text


def edited(path: Path, **changes: Any) -> None:
    """Set fields of a JSON file; None takes one out."""
    content = json.loads(path.read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept))


def as_of_2023(directory: Path) -> None:
    """The processor as an image processor's file that names the class of the whole."""
    content = json.loads((directory / "processor_config.json").read_text())
    own = content["image_processor"] | {"processor_class": "LlavaProcessor"}
    (directory / "preprocessor_config.json").write_text(json.dumps(own))
    (directory / "processor_config.json").unlink()


@pytest.mark.parametrize("lacking", [*((field,) for field in COMPLETED), COMPLETED])
def test_what_a_processor_does_not_say_is_the_models(
    copy: Path, answered: str, lacking: tuple[str, ...]
) -> None:
    edited(copy / "processor_config.json", **dict.fromkeys(lacking))
    assert answer(load_model(str(copy), "cpu")) == answered


def test_a_null_says_nothing_either(copy: Path, answered: str) -> None:
    path = copy / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict.fromkeys(COMPLETED)))
    assert answer(load_model(str(copy), "cpu")) == answered


def test_a_processor_of_2023(copy: Path, answered: str) -> None:
    as_of_2023(copy)
    assert answer(load_model(str(copy), "cpu")) == answered


@pytest.mark.parametrize("place", ["chat_template.json", "tokenizer_config.json"])
def test_where_chat_templates_were_kept(copy: Path, answered: str, place: str) -> None:
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").unlink()
    if not (copy / place).exists():
        (copy / place).write_text("{}")
    edited(copy / place, chat_template=template)
    assert answer(load_model(str(copy), "cpu")) == answered


def test_what_a_processor_says_is_not_completed(copy: Path) -> None:
    edited(copy / "processor_config.json", patch_size=14)
    assert "is 14, and 7 in config.json" in refused(copy)


def test_several_shards(copy: Path, answered: str) -> None:
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {f"model-0000{i + 1}-of-00003.safetensors": names[i::3] for i in range(3)}
    for shard, own in shards.items():
        save_file({name: tensors[name] for name in own}, copy / shard, {"format": "pt"})
    index = {name: shard for shard, own in shards.items() for name in own}
    (copy / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": index})
    )
    assert answer(load_model(str(copy), "cpu")) == answered


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_disk(copy: Path, dtype: torch.dtype) -> None:
    tensors = load_file(copy / "model.safetensors")
    halved = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    save_file(halved, copy / "model.safetensors", {"format": "pt"})
    name = str(dtype).removeprefix("torch.")
    edited(copy / "config.json", dtype=None, torch_dtype=name)
    loaded = load_model(str(copy), "cpu", dtype=name)
    assert loaded.model.dtype == dtype
    # float32 is exact for what is on disk, and what "auto" means on a CPU
    widened = load_model(str(copy), "cpu")
    assert widened.model.dtype == torch.float32
    name = "lm_head.weight"
    assert torch.equal(widened.model.state_dict()[name].to(dtype), loaded.model.state_dict()[name])
    answer(loaded)
    answer(widened)


def test_a_config_without_architectures(copy: Path) -> None:
    edited(copy / "config.json", architectures=None)
    sentence = refused(copy)
    assert "no architecture" in sentence
    assert "LlavaForConditionalGeneration, " in sentence
    assert "as architectures in config.json" in sentence


@pytest.mark.parametrize(
    "files",
    [
        ["pytorch_model.bin"],
        ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"],
    ],
)
def test_weights_that_are_pickled(copy: Path, files: list[str]) -> None:
    (copy / "model.safetensors").rename(copy / files[0])
    for file in files[1:]:
        (copy / file).write_text("{}")
    assert f"{files[0]} is not read, only safetensors are" in refused(copy)


@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_is_not_its_base(copy: Path, beside: bool) -> None:
    """With a whole model beside it transformers would load the base that it names instead."""
    if not beside:
        for file in copy.iterdir():
            file.unlink()
    base = "llava-hf/llava-1.5-7b-hf"
    (copy / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    sentence = refused(copy)
    assert "holds an adapter (adapter_config.json), no whole model" in sentence
    assert f"merge it into its base {base}" in sentence


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("bitsandbytes", {"load_in_4bit": True}), ("torchao", {"quant_type": "int8_weight_only"})],
)
def test_a_quantised_checkpoint_whose_package_is_not_there(
    copy: Path, kind: str, settings: dict[str, Any]
) -> None:
    edited(copy / "config.json", quantization_config={"quant_method": kind, **settings})
    sentence = refused(copy)
    assert "config.json makes no model that" in sentence
    assert kind in sentence
