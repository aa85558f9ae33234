"""What stands in a task's way is one sentence and status 2, before the first question."""

from __future__ import annotations

import json
from functools import partial

import pytest
from command_line import harness
from staged_rows import CAPTIONED, COLOUR, LAB, Staged, mmbench, seedbench, vqav2
from staged_tasks import stage

VIDEO = Staged(
    *("nextqa_mc_test", "lmms-eval/NExTQA", "test"),
    lambda q: {
        **{"video": 0, "question": q.text, "answer": 0, "qid": q.number, "type": "CH"},
        **{f"a{i}": answer for i, answer in enumerate(("yes", "no", "red", "blue", "two"))},
    },
    configuration="MC",
)
DATA = (
    VIDEO,
    *CAPTIONED[:1],
    Staged("mmbench_en_dev", f"{LAB}/MMBench", "dev", mmbench, COLOUR, "en"),
    Staged("vqav2_test", f"{LAB}/VQAv2", "test", vqav2),
    Staged("seedbench", f"{LAB}/SEED-Bench", "test", partial(seedbench, frames=2), COLOUR),
)
SENTENCES = {
    "vqav2_test": "cannot be scored here: ValueError: task 'vqav2_test' computes no score",
    "vqav2_val": "task 'vqav2_val' cannot be loaded: KeyError: 'validation'",
    "vizwiz_vqa_val": "the data of task 'vizwiz_vqa_val' cannot be loaded: Couldn't reach",
    "coco2017_cap_val": "cannot be scored here: FileNotFoundError: [Errno 2] No such file or "
    "directory: 'java'; its scorer is a Java program: install Java",
    "nextqa_mc_test": "a LlavaForConditionalGeneration takes no videos; allowed: LLaVA-OneVision, ",
    "seedbench": "task 'seedbench' has questions with 2 images: FastV cannot meet 64 visual tokens "
    "a layer: feasible is 73 to 1152",
    "mmbench_en_dev": "took over 20 s to score 3 invented answers; a judge that is asked for every "
    "answer needs its key; mmbench_en_dev_static needs none",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, tuple[int, str]]:
    """Status and standard error of a comparison on each task, all in one process without Java."""
    home = tmp_path_factory.mktemp("home")
    stage(home, DATA, 3)
    (home / "nextqa" / "NExTVideo").mkdir(parents=True)
    (home / "nextqa" / "NExTVideo" / "0.mp4").touch()
    variables = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    asked = ["compare", "--methods", "fastv", "--budgets", "64", "--no-efficiency"]
    asked += ["--device", "cpu", "-o", str(home / "out"), "--tasks"]
    done = harness(
        json.dumps({task: [*asked, task] for task in SENTENCES}),
        before=f"import os; os.environ.update({ {**variables, 'PATH': str(home)}!r})",
        code="import json\n"
        "for task, arguments in json.loads(sys.argv[1]).items():\n"
        "    print(f'{task} {main(arguments)}', file=sys.stderr)",
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert not list(home.glob("out/*.json*"))
    found, lines = {}, list[str]()
    for line in done.stderr.splitlines():
        task, _, status = line.partition(" ")
        if task in SENTENCES and status.isdecimal():
            found[task], lines = (int(status), "\n".join(lines)), []
        else:
            lines.append(line)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("task", SENTENCES)
def test_what_cannot_be_asked_or_scored_is_refused_before_the_first_question(said, task):
    status, lines = said[task]
    assert status == 2
    assert "Traceback" not in lines
    (line,) = [line for line in lines.splitlines() if line.startswith("harness: ")]
    assert SENTENCES[task] in line
