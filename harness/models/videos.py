"""Videos as a processor of transformers takes them: frames, and where in their file they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

FRAMES = 8
"""Of each video, unless told."""
SHOWN = "LLaVA-OneVision, LLaVA-NeXT-Video, Video-LLaVA, Qwen2-VL, Qwen2.5-VL, Qwen3-VL, InternVL"


@dataclass(frozen=True)
class Video:
    """Some frames of a file, uint8 [frames, height, width, 3].

    `places`: each one's number in the file, of `total` at `fps` a second, None where it is unknown.
    """

    frames: np.ndarray
    places: tuple[int, ...]
    total: int
    fps: float | None

    def metadata(self) -> dict[str, Any]:
        """As transformers' video processors take it; they write into its lists."""
        height, width = self.frames.shape[1:3]
        return {
            **{"total_num_frames": self.total, "fps": self.fps, "width": width, "height": height},
            **{"duration": self.total / self.fps if self.fps else None},
            "frames_indices": list(self.places),
        }


def given(videos: Sequence[Video]) -> dict[str, Any]:
    """Arguments of a processor for the videos of one prompt, whose frames are chosen already."""
    if not videos:
        return {}
    return {
        "videos": [video.frames for video in videos],
        "videos_kwargs": {
            "do_sample_frames": False,
            "input_data_format": "channels_last",
            "video_metadata": [video.metadata() for video in videos],
        },
    }


def check_takes_videos(model: Any) -> None:
    """Raises BadInput for a model of a family that is shown images only."""
    config = model.config
    if getattr(config, "video_token_id", None) is None and config.model_type != "internvl":
        raise BadInput(f"a {type(model).__name__} takes no videos; allowed: {SHOWN}")
