"""The command line: exit status and sentence of every bad input, help, listings."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from command_line import ROOT, harness

from harness.cli.app import main

TINY_LLAVA = ROOT / "tests" / "fixtures" / "tiny-llava"
BUDGET = (
    "a budget is a whole number of visual tokens from 1 up, or a share of them such as 33% or 1/9"
)


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs `harness compare` in-process, which must refuse and write nothing; the sentence."""

    def run(*arguments: str, output: Path | None = None) -> str:
        out = tmp_path / "out" if output is None else output
        before = sorted(tmp_path.rglob("*"))
        common = ["compare", "--model", "tiny", "--device", "cpu", "--output", str(out)]
        assert main([*common, *arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert sorted(tmp_path.rglob("*")) == before
        (line,) = [text for text in printed.err.splitlines() if text.startswith("harness: ")]
        return line.removeprefix("harness: ")

    return run


# bad input of compare


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "fastw"], "unknown method 'fastw'; did you mean 'fastv'?"),
        (["--methods", "fastv:laier=2"], "fastv has no setting 'laier'; did you mean 'layer'?"),
        (["--methods", "fastv:layer=two"], "fastv: layer is int"),
        (["--methods", "fastv:layer"], "a method's setting is written fastv:SETTING=VALUE"),
        (["--methods", ","], "--methods is a comma-separated list, not ','"),
        (["--tasks", ""], "--tasks is a comma-separated list, not ''"),
        (
            ["--budgets", "many"],
            f"{BUDGET}, not 'many'",
        ),
        (
            ["--budgets", "64.5"],
            f"{BUDGET}, not '64.5'",
        ),
        (
            ["--budgets", "64,0"],
            f"{BUDGET}, not '0'",
        ),
        (
            ["--budgets=-64"],
            f"{BUDGET}, not '-64'",
        ),
        (["--budgets", ""], "--budgets is a comma-separated list"),
        (["--limit", "few"], "Invalid value for '--limit'"),
        (["--no-accuracy", "--no-efficiency"], "leaves nothing to do"),
        (["--budget", "64"], "--budgets"),
        (["--nonsense"], "No such option: --nonsense"),
        (["stray"], "unexpected extra argument"),
        (["--dtype", "float23"], "unknown dtype 'float23'; did you mean 'float32'?"),
        (["--device", "cuba"], "unknown device 'cuba'; did you mean 'cuda'?"),
        (["--attention", "spda"], "unknown attention 'spda'; did you mean 'sdpa'?"),
        (["--methods", f"random:seed={2**40}"], "random: seed is from 0 to 2147483647"),
        (["--no-accuracy", "--tasks", "pope"], "--tasks has no effect with --no-accuracy"),
        (["--no-accuracy", "--limit", "3"], "--limit has no effect with --no-accuracy"),
        (["--no-efficiency", "--repeats", "3"], "--repeats has no effect with --no-efficiency"),
        (["--methods", "unpruned", "--budgets", "9"], "--budgets has no effect without a method"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(refused, arguments, sentence):
    assert sentence in refused(*arguments)


@pytest.mark.parametrize(
    ("option", "value", "bound"),
    [
        ("--limit", 0, 1),
        ("--limit", 10**12, 10**9),
        ("--batch-size", -1, 1),
        ("--repeats", 0, 1),
        ("--seed", -1, 0),
        ("--seed", 2**63, 2**31 - 1),
    ],
)
def test_numbers_out_of_range_are_refused_with_the_bound(refused, option, value, bound):
    sentence = refused(f"{option}={value}")
    assert sentence.startswith(f"Invalid value for '{option}': ")
    assert re.search(rf"\b{bound}\b", sentence)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--budgets", "577"], "budget 577 is above the image's 576 visual tokens"),
        (
            ["--budgets", "192,20", "--methods", "fastv", "--controls"],
            "budget 20 is infeasible for every requested method; feasible: fastv 37 to 576",
        ),
    ],
)
def test_budgets_that_the_model_cannot_have_are_refused(refused, arguments, sentence):
    assert sentence in refused(*arguments)


def test_cuda_without_a_device_is_refused(refused):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    sentence = refused("--device", "cuda")
    assert "cuda is not available" in sentence
    assert "allowed: cpu" in sentence


def test_flash_attention_without_its_package_is_refused(refused):
    from importlib.util import find_spec

    if find_spec("flash_attn") is not None:
        pytest.skip("flash-attn is installed")
    sentence = refused("--attention", "flash_attention_2")
    assert "flash-attn" in sentence
    assert "allowed: sdpa, eager" in sentence


def test_a_model_path_that_is_not_there_is_refused_with_its_neighbour(refused, tmp_path):
    (tmp_path / "llava-1.5-7b-hf").mkdir()
    wrong = tmp_path / "llava-1.5-7b"
    assert f"did you mean {str(tmp_path / 'llava-1.5-7b-hf')!r}?" in refused("--model", str(wrong))
    assert "did you mean 'embedded'?" in refused("--model", "embeded")


def test_a_model_of_another_class_is_refused_with_those_that_work(refused, tmp_path):
    model = shutil.copytree(TINY_LLAVA, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    sentence = refused("--model", str(model))
    assert "BertModel" in sentence
    assert "LlavaForConditionalGeneration" in sentence


def test_models_without_processor_or_with_damaged_weights_are_refused(refused, tmp_path):
    model = shutil.copytree(TINY_LLAVA, tmp_path / "model")
    assert "has no image processor" in refused("--model", str(model))
    for name in ("preprocessor_config.json", "tokenizer.json"):
        (model / name).write_text("{}")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "model.safetensors" in refused("--model", str(model))
    weights.unlink()
    assert "safetensors" in refused("--model", str(model))


def test_an_output_that_is_a_file_or_below_one_is_refused(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert f"{tmp_path / 'file'} is a file" in refused(output=output)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_of_too_long_a_name_is_refused(refused):
    assert "File name too long: aaaa" in refused(output=Path("a" * 300))


def test_data_is_not_written_among_other_files(tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert main(["data", "-o", str(tmp_path)]) == 2
    assert "holds other files; choose a new or an empty directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_output_without_permission_is_refused(refused, tmp_path, monkeypatch):
    def denied(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("harness.cli.words.TemporaryFile", denied)  # root may write anywhere
    assert "cannot be written: Permission denied in" in refused()


def test_a_page_that_could_not_be_replaced_is_refused_before_the_work(refused, tmp_path):
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    assert "report.html is no regular file, so it is not replaced" in refused("--report")


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("embedded_cuont", "embedded_count"), ("mmme", "mme"), ("refcoco+_seg_testX", "refcoco")],
)
def test_an_unknown_task_is_refused_with_the_nearest_and_without_an_index(
    refused, monkeypatch, word, nearest
):
    """lmms-eval's own index takes many seconds."""
    monkeypatch.setattr("harness.accuracy.lmms.tasks._shipped", pytest.fail)
    assert f"unknown task '{word}'; did you mean '{nearest}" in refused("--tasks", word)


@pytest.mark.slow
def test_every_name_of_lmms_evals_index_is_found_in_its_files():
    from harness.accuracy.lmms.tasks import _check_mentioned, _shipped

    names = list(_shipped().task_index)
    assert len(names) > 1000
    for name in names:
        _check_mentioned(name)


def test_the_script_exits_with_2_without_a_traceback(tmp_path):
    done = harness("compare", "--methods", "fastw", "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.startswith("harness: unknown method 'fastw'; did you mean 'fastv'?")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


# help


@pytest.mark.parametrize("command", [[], ["compare"], ["regress"], ["table"], ["list"], ["data"]])
def test_help_has_every_command(command, capsys):
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: harness" in text
    assert "Traceback" not in text


def test_help_of_compare_has_defaults_and_examples(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["compare", "--help"]) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for part in ("192,128,64", "vitcop,fastv", "results/local", "harness compare --limit 50"):
        assert part in text


def test_no_command_prints_help_and_misspelt_ones_get_a_suggestion(capsys):
    main([])
    assert "compare" in capsys.readouterr().out
    assert main(["compar"]) == 2
    assert "compare" in capsys.readouterr().err


# list


def test_lists(capsys):
    assert main(["list", "methods", "--wide"]) == 0
    methods = capsys.readouterr().out
    assert re.search(
        r"fastv +FastV +ECCV 2024 +before layer 2 +attention, question +no +37–576 +https://",
        methods,
    )
    assert main(["list", "tasks"]) == 0
    tasks = capsys.readouterr().out
    assert len(re.findall(r"^embedded_\w+ +\d+ +\d+\.\d", tasks, re.MULTILINE)) == 10
    assert "lmms-eval" in tasks
    assert main(["list", "models"]) == 0
    models = capsys.readouterr().out
    for name in ("embedded", "tiny", "DIRECTORY", "LlavaForConditionalGeneration"):
        assert name in models
    assert main(["list", "method"]) == 2
    assert "'methods', 'models', 'tasks'" in capsys.readouterr().err


def test_listing_tasks_imports_neither_lmms_eval_nor_torch():
    code = "main(); print({'lmms_eval', 'torch', 'transformers'} & set(sys.modules))"
    assert harness("list", "tasks", code=code).stdout.endswith("set()\n")


# table
