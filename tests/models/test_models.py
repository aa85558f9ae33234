"""Models by name or directory: loaded at rest, or refused in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.embedded.architecture import build_tiny, save
from harness.errors import BadInput
from harness.models.load import load_model, resolve

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "llava-tiny"
    save(build_tiny(), directory)
    return directory


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "llava-copy"))


def refused(name: Path | str, *placement: str) -> str:
    """The sentence with which a model is refused before it is loaded."""
    with pytest.raises(BadInput) as caught:
        resolve(str(name), *placement)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_tiny_is_at_rest() -> None:
    loaded = load_model("tiny", "cpu")
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.processor.tokenizer.padding_side == "left"
    assert (loaded.device, loaded.dtype, loaded.attention) == ("cpu", "float32", "sdpa")
    assert loaded.digest == resolve("tiny").digest()


def test_directory_is_loaded_in_the_dtype_and_kernel_asked_for(whole: Path) -> None:
    loaded = load_model(str(whole), "cpu", "bfloat16", "eager")
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.model.config.text_config._attn_implementation == "eager"
    assert resolve(str(whole), "cpu").placement.dtype == "float32"


def test_digest_follows_every_file_that_decides_answers(copy: Path) -> None:
    digests = {load_model(str(copy), "cpu").digest}
    for name in ("config.json", "chat_template.jinja"):
        (copy / name).write_text((copy / name).read_text() + " ")
        digests.add(resolve(str(copy)).digest())
    (copy / "README.md").write_text("does not matter")
    digests.add(resolve(str(copy)).digest())
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("placement", "part"),
    [
        (("cup",), "did you mean 'cpu'?"),
        (("cpu:1",), "unknown device 'cpu:1'"),
        (("cpu", "float23"), "did you mean 'float32'?"),
        (("cpu", "int8"), "allowed: auto, float32, bfloat16, float16"),
        (("cpu", "float32", "spda"), "did you mean 'sdpa'?"),
    ],
)
def test_unknown_placement_names_what_is_allowed(placement: tuple[str, ...], part: str) -> None:
    assert part in refused("tiny", *placement)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device that is to be missing")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_missing_device(device: str) -> None:
    assert "device cuda is not available" in refused("tiny", device)


@pytest.mark.parametrize("device", ["cuda:", "cuda:2", "cuda:-1", "cuda:one"])
def test_a_gpu_that_is_not_among_those_there_are(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert f"unknown device {device!r}; allowed: cuda:0 to cuda:1, or cpu" in refused(
        "tiny", device
    )
    assert resolve("tiny", "cuda:1").placement.device == "cuda:1"


def test_flash_attention_without_the_package_or_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    flash = ("cpu", "float32", "flash_attention_2")
    monkeypatch.setattr("harness.models.placement.find_spec", lambda name: None)
    assert "flash-attn" in refused("tiny", *flash)
    monkeypatch.setattr("harness.models.placement.find_spec", lambda name: object())
    assert "needs device cuda" in refused("tiny", *flash)


def test_unknown_model_names_the_nearest(whole: Path) -> None:
    assert "did you mean 'tiny'?" in refused("tinny")
    assert f"did you mean '{whole}'?" in refused(whole.with_name("llava-tny"))
    assert "is a file" in refused(whole / "config.json")


def test_directory_without_a_model(tmp_path: Path) -> None:
    assert "holds no config.json" in refused(tmp_path)


def test_unsupported_class_lists_the_supported(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["architectures"] = ["BertModel"]
    (copy / "config.json").write_text(json.dumps(config))
    sentence = refused(copy)
    assert "BertModel" in sentence
    assert "LlavaForConditionalGeneration" in sentence


def test_torn_config(copy: Path) -> None:
    (copy / "config.json").write_text('{"architectures": ["Llava')
    assert "cannot be read as JSON" in refused(copy)


def test_missing_weights(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "pytorch_model.bin is not read, only safetensors are" in refused(copy)


@pytest.mark.parametrize("kept", [4, 200, 50_000])
def test_truncated_weights(copy: Path, kept: int) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    assert "is torn" in refused(copy)


def test_weights_that_are_something_else(copy: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"
    (copy / "model.safetensors").write_text(text)
    assert "no safetensors file" in refused(copy)


def test_missing_shard(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = dict.fromkeys(tensors, "model-00001-of-00002.safetensors")
    names[next(iter(tensors))] = "model-00002-of-00002.safetensors"
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    save_file(tensors, copy / "model-00001-of-00002.safetensors")
    assert "lacks model-00002-of-00002.safetensors, one of the 2 shards" in refused(copy)


@pytest.mark.parametrize("file", ["processor_config.json", "tokenizer.json"])
def test_missing_processor(copy: Path, file: str) -> None:
    (copy / file).unlink()
    kind = "tokenizer" if file.startswith("tokenizer") else "image processor"
    assert f"has no {kind}" in refused(copy)


def test_fixture_has_no_processor() -> None:
    assert "has no image processor" in refused(FIXTURES / "tiny-llava")


def test_weights_that_lack_a_tensor_are_not_left_random(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    name = next(name for name in tensors if "q_proj" in name)
    del tensors[name]
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=r"lack tensors, such as .*q_proj"):
        load_model(str(copy), "cpu")


def test_missing_chat_template(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(BadInput, match="no chat template"):
        load_model(str(copy), "cpu")
