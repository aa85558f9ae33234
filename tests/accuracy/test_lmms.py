"""The class that lmms-eval's own users run, and what becomes of their requests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.accuracy.answers import Answer, Answerer, SampleError, sample_seed
from harness.accuracy.decoding import NEW_TOKENS, cut_at, generate_arguments
from harness.embedded import benchmark, export
from harness.errors import BadInput
from methods import InfeasibleBudgetError, PruningError

TASK = "embedded_count"
CACHE = "lmms_eval.api.task._resolve_hf_datasets_cache_dir"


def request(doc_id: int, generation: dict[str, Any]):
    from lmms_eval.api.instance import Instance

    arguments = ("", lambda doc: [], generation, doc_id, TASK, "test")
    metadata = {"task": TASK, "doc_id": doc_id, "repeats": 1}
    return Instance("generate_until", arguments, 0, metadata)


class Echo:
    """Answers with the items of the batch, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def answer(self, questions, generation) -> list[Answer]:
        self.batches.append([question.item for question in questions])
        return [Answer(q.item, 1, (), {}, {}, [], {}) for q in questions]


def test_manifest_is_found_by_lmms_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the entry point of pyproject.toml, whether or not the package is installed."""
    import tomllib

    from lmms_eval.models.registry_v2 import ModelRegistryV2

    root = Path(__file__).parents[2]
    points = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"{name} = {value}" for name, value in points["lmms_eval.models"].items()]
    installed = tmp_path / "pruning-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: pruning\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("\n".join(["[lmms_eval.models]", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    found = ModelRegistryV2()
    found.load_entrypoint_manifests(overwrite=True)
    assert found.get_model_class("pruned").__name__ == "PrunedModel"
    assert found.get_model_class("pruned", force_simple=True).__name__ == "SimplePrunedModel"


def test_manifest_costs_no_import() -> None:
    heavy = "{'torch', 'lmms_eval'} & set(sys.modules)"
    code = f"import sys, harness.accuracy.lmms; sys.exit(bool({heavy}))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_results_keep_the_order_of_the_requests() -> None:
    from harness.accuracy.lmms.model import AnsweringModel

    short, long = {"max_new_tokens": 2}, {"max_new_tokens": 9}
    echo, heard = Echo(), []
    model = AnsweringModel(echo, 2, lambda *told: heard.append(told[1]))
    kinds = [short, long, short, short, long]
    results = model.generate_until([request(i, kind) for i, kind in enumerate(kinds)])
    assert [result.text for result in results] == [f"{TASK}/{i}" for i in range(5)]
    assert echo.batches == [
        [f"{TASK}/0", f"{TASK}/2"],
        [f"{TASK}/3"],
        [f"{TASK}/1", f"{TASK}/4"],
    ]
    assert heard == [0, 2, 3, 1, 4]


def test_other_kinds_of_tasks_are_refused() -> None:
    from harness.accuracy.lmms.model import AnsweringModel

    model = AnsweringModel(Echo(), 1)
    with pytest.raises(BadInput, match="embedded_count compares likelihoods"):
        model.loglikelihood([request(0, {})])
    with pytest.raises(BadInput, match="embedded_count has several rounds"):
        model.generate_until_multi_round([request(0, {})])


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"method": "fastv"}, "fastv needs a budget"),
        ({"method": "fastv", "budget": 0}, "not 0"),
        ({"method": "fastv", "budget": 64.5}, "not 64.5"),
        ({"budget": 64}, "unpruned takes no budget"),
        ({"batch_size": "auto"}, "not 'auto'"),
        ({"frames": 0}, "frames is a positive integer, not 0"),
        ({"pretrained": "tinny"}, "did you mean 'tiny'?"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], part: str) -> None:
    from harness.accuracy.lmms.model import PrunedModel

    with pytest.raises(BadInput, match=part.replace("?", r"\?")):
        PrunedModel(**{"pretrained": "tiny", **arguments})


def test_generation_is_greedy_unless_a_task_samples() -> None:
    task = {"max_new_tokens": 4, "temperature": 0, "do_sample": True, "top_p": None, "until": "\n"}
    assert generate_arguments(task) == ({"max_new_tokens": 4, "do_sample": False}, ("\n",))
    sampling = {"temperature": 0.5, "top_p": 0.9, "num_beams": 1, "image_aspect_ratio": "original"}
    assert generate_arguments(sampling)[0] == {
        "max_new_tokens": NEW_TOKENS,
        "num_beams": 1,
        "do_sample": True,
        "temperature": 0.5,
        "top_p": 0.9,
    }
    assert generate_arguments({"do_sample": False, "temperature": 0.7})[0]["do_sample"] is False


@pytest.mark.parametrize(
    ("text", "until", "cut"),
    [
        (" yes \n", [], "yes"),
        ("yes\n\nUSER: more", ["\n\n"], "yes"),
        ("\n\nyes", ["\n\n"], "yes"),
        ("a b c d", ["c", "b"], "a"),
        ("yes", [""], "yes"),
    ],
)
def test_text_is_cut_at_stops(text: str, until: list[str], cut: str) -> None:
    assert cut_at(text, until) == cut


def test_seeds_are_the_same_everywhere() -> None:
    assert sample_seed("embedded_count/7", 0) == 1550516059
    assert len({sample_seed(f"t/{i}", seed) for i in range(50) for seed in range(5)}) == 250


@pytest.mark.parametrize("simple", [False, True])
def test_lmms_eval_runs_the_model_by_name(
    tmp_path: Path, simple: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `python -m lmms_eval --model pruned` does, on files that `harness data` writes."""
    from lmms_eval import models
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    from harness.accuracy.lmms import manifest

    monkeypatch.setattr(CACHE, lambda: str(tmp_path / "datasets"))
    models.MODEL_REGISTRY_V2.register_manifest(manifest(), overwrite=True)
    export.write(tmp_path / "benchmark", [TASK])
    results = simple_evaluate(
        model="pruned",
        model_args="pretrained=tiny,method=fastv:layer=2,budget=64,device=cpu",
        tasks=[TASK],
        task_manager=TaskManager(include_path=str(tmp_path / "benchmark"), include_defaults=False),
        batch_size=4,
        limit=4,
        bootstrap_iters=0,
        force_simple=simple,
    )
    answers = [sample["filtered_resps"][0] for sample in results["samples"][TASK]]
    assert len(answers) == 4
    assert answers == direct_answers()


PLANTED = """
from dataclasses import replace
from baselines.fastv import FastV
from methods import Selection
solve = FastV.solve
def idle(*asked):
    plan = solve(*asked)
    nothing = lambda view: Selection()
    return replace(plan, decoder=tuple(replace(s, select=nothing) for s in plan.decoder))
FastV.solve = idle
"""
"""FastV that promises tokens and cuts nothing."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "status", "said"),
    [
        ("", 0, ""),
        (PLANTED, 1, f"harness: {TASK}/0: 576 visual tokens entered layer 2, planned were 30"),
    ],
)
def test_the_command_line_of_lmms_eval_succeeds_only_where_the_plan_was_kept(
    tmp_path: Path, before: str, status: int, said: str
) -> None:
    """`python -m lmms_eval --model pruned` in a process of its own, `before` done first."""
    export.write(tmp_path, [TASK])
    register = "models.MODEL_REGISTRY_V2.register_manifest(manifest(), overwrite=True)"
    imports = (
        "import runpy; from lmms_eval import models; from harness.accuracy.lmms import manifest"
    )
    start = f'{imports}; {register}; runpy.run_module("lmms_eval", run_name="__main__")'
    arguments = "pretrained=tiny,device=cpu,method=fastv,budget=64"
    done = subprocess.run(
        [
            *(sys.executable, "-c", before + start, "--include_path", str(tmp_path)),
            *("--model", "pruned", "--model_args", arguments, "--tasks", TASK, "--limit", "2"),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert (f"|{TASK}" in done.stdout) == (status == 0)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("method=fastw,budget=64", 2, "unknown method 'fastw'; did you mean 'fastv'"),
        ("method=fastv", 2, "fastv needs a budget"),
        ("methud=fastv,budget=64", 1, "unexpected keyword argument 'methud'"),
    ],
)
def test_bad_arguments_end_the_process_that_lmms_eval_runs_in(
    arguments: str, status: int, said: str, capsys
) -> None:
    from harness.accuracy.lmms.model import PrunedModel

    with pytest.raises(SystemExit) as ended:
        PrunedModel.create_from_arg_string(f"pretrained=tiny,{arguments}", {"batch_size": 1})
    assert ended.value.code == status
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SampleError("planted"), 1),
        (PruningError("planted"), 1),
        (InfeasibleBudgetError("fastv", 3, 37, 576), 2),
        (BadInput("planted"), 2),
        (KeyError("planted"), 1),
    ],
)
def test_no_exception_reaches_lmms_eval_which_would_exit_with_0(error, status, capsys) -> None:
    from harness.accuracy.lmms.model import PrunedModel

    model = PrunedModel("tiny", device="cpu")
    model.answerer.answer = Raising(error)
    with pytest.raises(SystemExit) as ended:
        model.generate_until([request(0, {})])
    assert ended.value.code == status
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("harness: ")
    assert ("Traceback" in said) == isinstance(error, KeyError)


def test_a_video_that_cannot_be_shown_is_bad_input(capsys) -> None:
    from harness.accuracy.lmms.model import PrunedModel

    model = PrunedModel("tiny", device="cpu", frames="4")
    assert model.videos.frames == 4
    turn = {"role": "user", "content": [{"type": "video", "url": "a.mp4"}]}
    model.task_dict["t"] = {"test": {0: "a document"}}
    asked = request(0, {})
    asked.arguments = ("words", lambda document: [turn], {}, 0, "t", "test")
    with pytest.raises(SystemExit) as ended:
        model.generate_until([asked])
    assert ended.value.code == 2
    said = "harness: t/0: a LlavaForConditionalGeneration takes no videos; allowed: LLaVA-OneVision"
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)


class Raising:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *asked: object) -> None:
        raise self.error


def direct_answers() -> list[str]:
    """The same without lmms-eval."""
    from PIL import Image

    from harness.accuracy.answers import Question
    from harness.models.load import load_model
    from methods import Budget, get_method

    loaded = load_model("tiny", "cpu")
    answerer = Answerer(loaded, get_method("fastv"), Budget(64))
    questions = []
    for i, item in enumerate(benchmark.items(TASK)[:4]):
        image = Image.fromarray(benchmark.image(item.image_id))
        prompt = f"USER: <image>\n{item.question} ASSISTANT:"
        questions.append(Question(f"{TASK}/{i}", lambda p=prompt, m=image: (p, [m])))
    return [answer.text for answer in answerer.answer(questions, {"max_new_tokens": 4})]
