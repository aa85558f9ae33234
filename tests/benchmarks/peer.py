"""What a comparison of seven cells costs here, and as seven runs of lmms-eval's own `llava_hf`.

`python tests/benchmarks/peer.py [QUESTIONS [ROUNDS]] > results/peer.json`. The rounds are
interleaved, a process each; both ask the embedded model the same questions on one thread. The peer
cannot prune: seven times it is the unpruned model. Its scores have to be ours. Wall seconds are of
use on an idle machine only; processor seconds are less moved by what else runs.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from harness.embedded import checkpoint_path
from harness.models.placement import machine
from harness.records.provenance import provenance

TASK = "embedded_count"
CELLS = 7
SIDES = ("compare", "peer")


def timed(command: list[str], **environment: str) -> tuple[float, float, str]:
    """Wall and processor seconds of one process, and what it printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
    )
    wall, after = perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, spent, done.stdout


def compare(work: Path, questions: int) -> tuple[float, float, float]:
    """All cells by one command, and unpruned's score."""
    with tempfile.TemporaryDirectory(dir=work) as output:
        command = ["harness", "compare", "--methods", "vitcop,fastv", "--tasks", TASK]
        options = ["--limit", str(questions), "--batch-size", "8", "--no-efficiency"]
        wall, spent, out = timed([*command, *options, "--device", "cpu", "--output", output])
    found = re.search(r"^Unpruned +\S+ +(\S+)", out, re.MULTILINE)
    assert found is not None, out
    return wall, spent, float(found[1])


def peer(work: Path, questions: int) -> tuple[float, float, float]:
    """The seven runs, and their score."""
    model = f"pretrained={checkpoint_path()},device_map=cpu,dtype=float32,attn_implementation=sdpa"
    command = ["lmms_eval", "--model", "llava_hf", "--model_args", model, "--device", "cpu"]
    task = ["--include_path", str(work / "bench"), "--tasks", TASK, "--batch_size", "1"]
    limit = ["--limit", str(questions)]
    runs = [timed([*command, *task, *limit], PYTHONPATH=str(work / "stub")) for _ in range(CELLS)]
    found = re.search(r"\|acc *\|↑ *\| *([\d.]+)\|", runs[0][2])
    assert found is not None, runs[0][2]
    return sum(r[0] for r in runs), sum(r[1] for r in runs), 100 * float(found[1])


def main(questions: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        timed(["harness", "data", "-o", str(work / "bench")])
        # its wrapper wants decord where no video is read
        (work / "stub").mkdir()
        (work / "stub" / "decord.py").write_text("VideoReader = cpu = None\n")
        seconds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(rounds):
            scores = set()
            for side, run in zip(SIDES, (compare, peer), strict=True):
                wall, spent, score = run(work, questions)
                seconds[side].append({"wall": round(wall, 2), "processor": round(spent, 2)})
                scores.add(score)
            if len(scores) > 1:
                raise SystemExit(f"the two score unpruned differently: {sorted(scores)}")
    ratios = {
        kind: [
            round(theirs[kind] / ours[kind], 2)
            for ours, theirs in zip(seconds["compare"], seconds["peer"], strict=True)
        ]
        for kind in ("wall", "processor")
    }
    medians = {kind: median(values) for kind, values in ratios.items()}
    found = {"questions": questions, "seconds": seconds, "ratios": ratios, "median": medians}
    print(json.dumps({**found, **provenance(machine("cpu"))}, indent=1))


if __name__ == "__main__":
    main(*(int(number) for number in (*sys.argv[1:], *("40", "3")[len(sys.argv) - 1 :])))
