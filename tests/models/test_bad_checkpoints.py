"""Checkpoints whose files do not fit each other: refused before any work, by file and field."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save_file

from harness.cli.app import main
from harness.embedded.architecture import build_tiny, save
from harness.errors import BadInput
from harness.models import load as models
from harness.models.load import load_model, resolve

INDEX = "model.safetensors.index.json"
SHARD = "model-00001-of-00001.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "llava"
    save(build_tiny(), directory)
    return directory


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal comes before the model is loaded."""
    monkeypatch.setattr(models, "_from_directory", lambda *_: pytest.fail("the model was loaded"))


def edited(path: Path, **changes: Any) -> None:
    """Set fields of a JSON file, `part__field` for one within a part."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *outer, field = name.split("__")
        inside = content
        for part in outer:
            inside = inside[part]
        inside[field] = value
    path.write_text(json.dumps(content))


def test_the_untouched_checkpoint_passes(copy: Path) -> None:
    assert resolve(str(copy), "cpu").placement.dtype == "float32"


TEXT_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
SIZES = [
    *(f"text_config__{field}" for field in (*TEXT_SIZES, "num_key_value_heads", "vocab_size")),
    *(f"vision_config__{field}" for field in (*TEXT_SIZES, "image_size", "patch_size")),
    "vision_config__num_channels",
]


@pytest.mark.parametrize("field", SIZES)
@pytest.mark.parametrize("value", [0, -1])
def test_a_size_below_one_is_named(copy: Path, field: str, value: int) -> None:
    edited(copy / "config.json", **{field: value})
    sentence = refused(copy)
    assert "config.json" in sentence
    assert f"{field.replace('__', '.')} in " in sentence
    assert f"is a whole number from 1 {'to' if 'layers' in field else 'up'}" in sentence
    assert sentence.endswith(f"not {value}")


@pytest.mark.parametrize("field", SIZES)
@pytest.mark.parametrize("change", [lambda n: n + 1, lambda n: 2 * n, lambda n: 10**12])
def test_a_size_that_the_weights_do_not_have_is_refused(
    copy: Path, field: str, change: Callable[[int], int]
) -> None:
    part, name = field.split("__")
    own = json.loads((copy / "config.json").read_text())[part][name]
    edited(copy / "config.json", **{field: change(own)})
    if name == "num_attention_heads" and part == "vision_config" and change(own) == 2 * own:
        resolve(str(copy), "cpu")  # heads of half the width are as good
    else:
        assert "config.json" in refused(copy)


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
@pytest.mark.parametrize("value", [None, [], "llama"])
def test_a_part_of_the_configuration_that_is_none(copy: Path, part: str, value: object) -> None:
    edited(copy / "config.json", **{part: value})
    assert f"{part} in {copy / 'config.json'} is an object, not {value!r}" in refused(copy)


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_a_part_that_says_nothing_stands_for_a_published_shape(copy: Path, part: str) -> None:
    """7B parameters by default, which nothing here has to build."""
    edited(copy / "config.json", **{part: {}})
    assert re.search("do not fit config.json|lack tensors|num_hidden_layers", refused(copy))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dtype": "float23"}, "dtype 'float23' in .*config.json is unknown; allowed: float32, bf"),
        ({"dtype": 16}, "dtype 16 in .* is unknown"),
        ({"dtype": ["float32"]}, r"dtype \['float32'\] in .* is unknown"),
        ({"architectures": None}, "no architecture in .* is not a supported model class"),
        ({"architectures": "Llava"}, "no architecture in .* is not a supported model class"),
        ({"architectures": [3]}, "3 in .* is not a supported model class"),
        ({"model_type": "berty"}, "config.json is no configuration of a LlavaForCond.*berty"),
        (
            {"model_type": "bert"},
            "model_type in .*config.json is 'llava' for .*, not 'bert'",
        ),
        ({"text_config__num_hidden_layers": "32"}, "text_config.num_hidden_layers in .*, not '32'"),
        ({"vision_config__patch_size": None}, "patch_size in .*from 1 up, not None"),
        ({"vision_config__image_size": 168.0}, "image_size in .*from 1 up, not 168.0"),
        ({"text_config__num_hidden_layers": 31}, "layers that config.json does not name.*31"),
        ({"text_config__num_hidden_layers": 33}, "lack tensors, such as .*layers.32"),
        ({"text_config__hidden_act": "xx"}, "config.json makes no model .*xx"),
        ({"text_config__model_type": "opt"}, "config.json"),
        ({"vision_config__patch_size": 500}, "patch_size in .*from 1 to image_size 168, not 500"),
        (
            {"vision_config__model_type": "siglip_vision_model"},
            "config.json: .*'default' does not",
        ),
        ({"vision_feature_select_strategy": "best"}, "config.json.*vision_feature_select_strategy"),
        ({"vision_feature_select_strategy": "full"}, "strategy 'full' does not fit a clip_vision"),
        ({"vision_feature_layer": [-2, -5]}, "config.json: a tower whose features come from sev"),
        *(
            ({"vision_feature_layer": layer}, f"config.json: .* no layer {layer}; .* 1 to 3, or -3")
            for layer in (-50, -4, 0, 4, 99)
        ),
        *(
            ({"image_token_index": token}, f"image_token_index in .* 0 to .*, not {token}")
            for token in (-1, 10**6)
        ),
        ({"image_token_index": 7}, "processor in .* makes 0 tokens 7, image_token_index in config"),
    ],
)
def test_a_field_that_fits_nothing_is_named(copy: Path, changes: dict, sentence: str) -> None:
    edited(copy / "config.json", **changes)
    assert re.search(sentence, refused(copy))


@pytest.mark.parametrize("layer", [-3, -1, 1, 3])
def test_every_layer_that_the_tower_has_can_be_the_features(copy: Path, layer: int) -> None:
    edited(copy / "config.json", vision_feature_layer=layer)
    resolve(str(copy), "cpu")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[]", "holds no JSON object but a list"),
        (b"null", "holds no JSON object but a NoneType"),
        (b"", "cannot be read as JSON"),
        (b"{", "cannot be read as JSON"),
        (b'{"a": "\xff\xfe"}', "cannot be read as JSON"),
        (b'{"a": ' + b"[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_a_file_that_is_no_json_object(
    copy: Path, file: str, content: bytes, sentence: str
) -> None:
    (copy / file).write_bytes(content)
    assert f"{copy / file} {sentence}" in refused(copy)


def sharded(directory: Path, **index: Any) -> None:
    """The weights as one shard with an index, of which `index` replaces parts; None takes out."""
    names = dict.fromkeys(load_file(directory / "model.safetensors"), SHARD)
    (directory / "model.safetensors").rename(directory / SHARD)
    content = {"metadata": {"total_size": 1}, "weight_map": names} | index
    kept = {key: value for key, value in content.items() if value is not None}
    (directory / INDEX).write_text(json.dumps(kept))


def test_a_sound_index_passes(copy: Path) -> None:
    sharded(copy)
    resolve(str(copy), "cpu")


def test_shards_may_be_links_as_in_a_download_cache(copy: Path) -> None:
    sharded(copy)
    blob = copy.parent / "blob"
    (copy / SHARD).rename(blob)
    (copy / SHARD).symlink_to(blob)
    resolve(str(copy), "cpu")


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ({"metadata": None}, "has no metadata"),
        ({"weight_map": None}, "has no weight_map"),
        ({"weight_map": ["a"]}, "has no weight_map"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": {"a": "absent.safetensors"}}, "lacks absent.safetensors, one of the 1"),
        ({"weight_map": {"a": "../../model.safetensors"}}, "names '../../model.safetensors'; allo"),
        ({"weight_map": {"a": "/etc/passwd"}}, "names '/etc/passwd'; allowed: .safet"),
        ({"weight_map": {"a": ".."}}, "names '..'; allowed"),
        ({"weight_map": {"a": 5}}, "names '5'; allowed"),
    ],
)
def test_an_index_that_names_no_shards_beside_it(
    copy: Path, index: dict[str, Any], sentence: str
) -> None:
    sharded(copy, **index)
    assert sentence in refused(copy)


def test_a_weight_of_another_shape(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    name = next(name for name in tensors if "layers.3.self_attn.q_proj" in name)
    tensors[name] = torch.zeros(7, 32)
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    assert re.search(r"do not fit config.json: .*layers.3.*q_proj.* is \[7, 32\]", refused(copy))


@pytest.mark.parametrize(
    ("file", "changes", "sentence"),
    [
        ("processor_config.json", {"patch_size": 0}, "patch_size of the processor in .* is 0, and"),
        ("processor_config.json", {"patch_size": 14}, "is 14, and 7 in config.json"),
        ("processor_config.json", {"processor_class": "CLIPProcessor"}, "CLIPProcessor and has no"),
        ("processor_config.json", {"processor_class": "NoProcessor"}, "the processor in "),
        ("processor_config.json", {"num_additional_image_tokens": 5}, "makes 580 tokens "),
        (
            "processor_config.json",
            {"image_processor__crop_size": {"height": 84, "width": 84}},
            "makes 144 tokens",
        ),
        ("tokenizer.json", {"model": {}}, "the processor in .* cannot be loaded"),
    ],
)
def test_a_processor_that_does_not_fit(
    copy: Path, file: str, changes: dict[str, Any], sentence: str
) -> None:
    edited(copy / file, **changes)
    assert re.search(sentence, refused(copy))


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("", "has no chat template"),
        ("{{ messages[0]['role'] }}: hello", "has 0 places '<image>'"),
        ("<image> <image> {{ messages[0]['role'] }}", "has 2 places '<image>'"),
        ("<image> {{ raise_exception('only text here') }}", "fails on .*: only text here"),
        (
            "<image> {{ messages[0].content.strip() }}",
            "the chat template in .* fails on a",
        ),
        ("{% if %}", "the chat template in .* fails on a"),
    ],
)
def test_a_chat_template_that_cannot_ask_about_an_image(
    copy: Path, template: str, sentence: str
) -> None:
    (copy / "chat_template.jinja").write_text(template)
    assert re.search(sentence, refused(copy))


@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "generation_config.json", "chat_template.jinja"]
)
def test_a_pipe_is_not_waited_for(copy: Path, file: str) -> None:
    (copy / file).unlink()
    os.mkfifo(copy / file)
    assert re.search("is no regular file|holds no", refused(copy))


def test_a_pipe_in_place_of_the_directory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is a file; name the directory that holds it" in refused(tmp_path / "pipe")


def test_a_link_to_nothing(copy: Path) -> None:
    (copy / "generation_config.json").unlink()
    (copy / "generation_config.json").symlink_to(copy / "gone")
    assert "generation_config.json is no regular file" in refused(copy)


def test_a_directory_beside_the_files_does_not_matter(copy: Path) -> None:
    (copy / "old.json").mkdir()
    resolve(str(copy), "cpu")
    assert len(resolve(str(copy)).digest()) == 64


def test_load_model_refuses_as_check_model_does(copy: Path) -> None:
    edited(copy / "config.json", text_config=None)
    with pytest.raises(BadInput, match=r"text_config in .* is an object, not None"):
        load_model(str(copy), "cpu")


@pytest.mark.parametrize("command", ["compare", "efficiency"])
def test_the_command_line_ends_with_one_sentence_and_two(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture, command: str
) -> None:
    edited(copy / "config.json", vision_config__patch_size=0)
    options = ["--model", str(copy), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main([command, *options, "--methods", "fastv"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "vision_config.patch_size in" in told.err
    assert not (tmp_path / "out").exists()
