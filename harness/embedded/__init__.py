"""The small LLaVA that comes with the harness, its training and its benchmark; `video` has both for
clips.

Importing this package imports none of the heavy libraries; see `architecture` (the model from
scratch), `training`, `benchmark` (300 held-out questions in each of five tasks).
"""

from pathlib import Path

from harness.embedded.benchmark import GROUP, TASKS

__all__ = ["GROUP", "TASKS", "checkpoint_path", "video_checkpoint_path"]


def checkpoint_path() -> Path:
    """The directory of the shipped weights, which the Auto classes of transformers load."""
    return Path(__file__).parent / "checkpoint"


def video_checkpoint_path() -> Path:
    """The directory of the shipped weights of the video model."""
    return Path(__file__).parent / "video" / "checkpoint"
