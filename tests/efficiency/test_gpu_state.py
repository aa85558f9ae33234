"""A busy or slowed GPU is refused; `nvidia-smi` is a stand-in on the path."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.efficiency.trackers.gpu import NOT_CHECKED, check_idle, gpu_state
from harness.errors import BadInput
from harness.records.gpu import GpuState, complaints

ANSWER = """#!/bin/sh
case "$*" in
  *--id=GPU-{uuid}*) ;;
  *) exit 6 ;;
esac
case "$*" in
  *compute-apps*) printf '%s' '{apps}' ;;
  *reasons*) echo 0x{bits:016x} ;;
  *) echo '{load}, 41, 1980, 1980, 3201, 120.5, [N/A]' ;;
esac
"""
UUID = "12345678-9abc-def0-1234-56789abcdef0"


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(uuid=UUID)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def answer(load: int = 0, bits: int = 0x4, apps: str = "") -> None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(ANSWER.format(uuid=UUID, load=load, bits=bits, apps=apps))
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return answer


def test_an_idle_gpu_passes_and_is_described(answering) -> None:
    answering()
    state = check_idle("cuda:0", allow_busy=False)
    assert state["sm_clock_mhz"] == 1980
    assert state["memory_used_mib"] is None
    assert complaints(GpuState.of(state)) == []


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"load": 97}, "it is 97 % busy"),
        ({"apps": "12, 100\n13, 100\n"}, "2 other processes are on it"),
        ({"bits": 0x48}, "hardware slowdown, hardware thermal slowdown"),
    ],
)
def test_a_busy_or_slowed_gpu_is_refused_unless_allowed(answering, told, sentence) -> None:
    answering(**told)
    with pytest.raises(BadInput, match=sentence):
        check_idle("cuda", allow_busy=False)
    assert complaints(GpuState.of(check_idle("cuda", allow_busy=True))) == sentence.split(", ")


def test_without_the_tool_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_idle("cuda", allow_busy=False) == {"problem": NOT_CHECKED}
    assert gpu_state("cpu") == {}
