"""Models by their name on the Hugging Face hub: from a filled cache, or a sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from harness.cli.app import main
from harness.embedded.architecture import build_tiny, save
from harness.errors import BadInput
from harness.models import hub
from harness.models.load import load_model, resolve

NAME, COMMIT, OLDER = "llava-hf/llava-1.5-7b-hf", "a" * 40, "b" * 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "llava"
    save(build_tiny(), directory)
    return directory


@pytest.fixture
def cache(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two commits of one model, as the hub's own tools fill it, offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.snapshot.cache_clear()
    folder = tmp_path / "hub" / "models--llava-hf--llava-1.5-7b-hf"
    for commit in (COMMIT, OLDER):
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for file in whole.iterdir():
            blob = folder / "blobs" / f"{commit[0]}-{file.name}"
            blob.parent.mkdir(exist_ok=True)
            shutil.copy(file, blob)
            (snapshot / file.name).symlink_to(Path("../../blobs", blob.name))
    config = folder / "snapshots" / OLDER / "config.json"
    config.write_text(config.read_text() + " ")
    for ref, commit in (("main", COMMIT), ("v0.9", OLDER)):
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / ref).write_text(commit)
    return folder


def refused(name: str) -> str:
    with pytest.raises(BadInput) as caught:
        resolve(name, "cpu")
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_a_name_is_found_in_the_cache_and_pinned_to_its_commit(cache: Path, whole: Path) -> None:
    assert resolve(NAME, "cpu").placement.dtype == "float32"
    loaded = load_model(NAME, "cpu")
    assert loaded.name == f"{NAME}@{COMMIT}"
    assert loaded.digest == resolve(str(whole)).digest()


@pytest.mark.parametrize("revision", ["v0.9", OLDER])
def test_a_revision_is_another_model(cache: Path, whole: Path, revision: str) -> None:
    loaded = load_model(f"{NAME}@{revision}", "cpu")
    assert loaded.name == f"{NAME}@{OLDER}"
    assert loaded.digest == resolve(f"{NAME}@{revision}").digest() != resolve(str(whole)).digest()


def test_what_a_record_names_can_be_asked_for_again(cache: Path) -> None:
    assert load_model(f"{NAME}@{COMMIT}", "cpu").name == f"{NAME}@{COMMIT}"


def test_a_directory_of_that_name_comes_first(
    cache: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, tmp_path / NAME)
    assert load_model(NAME, "cpu").name == NAME


def test_a_name_that_the_cache_lacks(cache: Path) -> None:
    sentence = refused("llava-hf/llava-1.5-7b")
    assert "unknown model 'llava-hf/llava-1.5-7b'" in sentence
    assert f"did you mean {NAME!r}?" in sentence
    assert f"not in the Hugging Face cache {cache.parent}" in sentence
    assert "random:" not in sentence


def test_a_revision_that_the_cache_lacks(cache: Path) -> None:
    assert f"revision 'v2' of {NAME} is not in the Hugging Face cache" in refused(f"{NAME}@v2")


def test_a_name_that_is_none_is_still_one_of_a_directory(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "llava").mkdir()
    assert f"did you mean '{tmp_path / 'llava'}'?" in refused(str(tmp_path / "lava"))
    assert "ORG/NAME on the Hugging Face hub" in refused("a/b/c")


def test_a_snapshot_without_what_a_model_needs(cache: Path) -> None:
    (cache / "snapshots" / COMMIT / "model.safetensors").unlink()
    assert f"{cache / 'snapshots' / COMMIT} holds no weights" in refused(NAME)


def downloads(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., str]) -> None:
    hub.snapshot.cache_clear()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)


def test_only_what_is_read_is_downloaded_and_once(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def answer(repository: str, **options: Any) -> str:
        asked.append({"repository": repository, **options})
        return str(whole)

    downloads(monkeypatch, answer)
    load_model("org/model@v1", "cpu")
    (options,) = asked
    assert (options["repository"], options["revision"]) == ("org/model", "v1")
    assert not options.get("local_files_only")
    there = ["config.json", "a.safetensors", "pytorch_model.bin", "model.gguf", "onnx/a.json"]
    there += ["chat_template.jinja", "tokenizer.model", "README.md", "modeling.py"]
    wanted = filter_repo_objects(
        there,
        allow_patterns=options["allow_patterns"],
        ignore_patterns=options["ignore_patterns"],
    )
    assert set(wanted) == {*there[:2], "chat_template.jinja", "tokenizer.model"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RepositoryNotFoundError, "no model of that name on the Hugging Face hub"),
        (RevisionNotFoundError, "org/model has no revision 'v1' on the hub"),
    ],
)
def test_the_hub_says_no(
    error: type[RepositoryNotFoundError], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: Any, **__: Any) -> str:
        raise error("long\nreason", response=Mock())

    downloads(monkeypatch, answer)
    assert sentence in refused("org/model@v1")


def test_a_snapshot_that_lacks_what_no_model_needs(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers downloads only what it reads, so the hub's own list names more than is there."""

    def answer(*_: Any, **__: Any) -> str:
        error = LocalEntryNotFoundError("incomplete")
        error.snapshot_path = str(whole)
        raise error

    downloads(monkeypatch, answer)
    assert resolve("org/model", "cpu").placement.dtype == "float32"


def test_a_download_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device")

    downloads(monkeypatch, answer)
    assert "org/model cannot be had from the Hugging Face hub: OSError" in refused("org/model")


def test_the_command_line_ends_with_one_sentence_and_two(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["compare", "--model", "llava-hf/none", "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "unknown model 'llava-hf/none'" in told.err
    assert not (tmp_path / "out").exists()
