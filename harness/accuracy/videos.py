"""Frames of videos, decoded once for all cells of a comparison.

Frames are chosen as lmms-eval's `llava_onevision` and `llava_hf` choose them: so many, evenly from
the first to the last, some of them twice where a video has fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.errors import BadInput, blamed
from harness.models.videos import FRAMES, Video

MOST_BYTES = 2 * 2**30
PICTURES = (".apng",)
"""Animated ones, which need no decoder of videos; lmms-eval takes .gif and .png for images."""


class Videos:
    """Videos by file, `frames` of each; at most `most_bytes` of them are kept.

    The first come stay: cells ask about the same videos in the same order, so that of more than
    fit the oldest would always go before it is asked for again.
    """

    def __init__(self, frames: int = FRAMES, most_bytes: int = MOST_BYTES) -> None:
        self.frames, self.most_bytes = frames, most_bytes
        self.kept_bytes = 0
        self._kept: dict[str, Video] = {}

    def read(self, path: str) -> Video:
        """Raises BadInput, which names the file."""
        if path in self._kept:
            return self._kept[path]
        video = decoded(path, self.frames)
        if self.kept_bytes + video.frames.nbytes <= self.most_bytes:
            self._kept[path] = video
            self.kept_bytes += video.frames.nbytes
        return video

    def make_room(self) -> None:
        """For other videos, where more than half is taken."""
        if self.kept_bytes > self.most_bytes / 2:
            self._kept.clear()
            self.kept_bytes = 0


def decoded(path: str, count: int) -> Video:
    """So many frames of a file. Raises BadInput, which names it."""
    if not Path(path).is_file():
        raise BadInput(f"there is no video {path}")
    blame = blamed(f"the video {path} cannot be read")
    if Path(path).suffix.lower() in PICTURES:
        with blame, Image.open(path) as picture:
            return _of_picture(picture, count)
    av = _decoder()
    with blame, av.open(path) as container:
        return _chosen(container, count)


def _of_picture(picture: Image.Image, count: int) -> Video:
    total = getattr(picture, "n_frames", 1)
    milliseconds = picture.info.get("duration")
    places = _evenly(total, count)
    found = {}
    for place in dict.fromkeys(places):
        picture.seek(place)
        found[place] = np.asarray(picture.convert("RGB"))
    fps = 1000 / milliseconds if milliseconds else None
    return Video(np.stack([found[place] for place in places]), tuple(places), total, fps)


def _evenly(total: int, count: int) -> list[int]:
    return np.linspace(0, total - 1, count, dtype=int).tolist()


def _decoder() -> Any:
    try:
        import av
    except ImportError as error:
        raise BadInput(
            "videos need the extra: pip install 'visual-token-pruning[video]'"
        ) from error
    return av


def _chosen(container: Any, count: int) -> Video:
    """Raises ValueError for a file without frames, and what the decoder raises."""
    if not container.streams.video:
        raise ValueError("it holds no video")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    packets = (p for p in container.demux(stream) if p.size and not p.is_discard)
    shown = [(_time(p), p.pts if p.dts is None else p.dts, p.is_keyframe) for p in packets]
    if not shown:
        raise ValueError("it holds no frames")
    times = sorted(time for time, _, _ in shown)
    keys = [(time, begin) for time, begin, is_key in shown if is_key]
    places = _evenly(len(times), count)
    found = {
        place: _frame(container, stream, keys, times[place]) for place in dict.fromkeys(places)
    }
    rate = stream.average_rate
    return Video(
        np.stack([found[place] for place in places]),
        tuple(places),
        len(times),
        float(rate) if rate else None,
    )


def _frame(container: Any, stream: Any, keys: Sequence[tuple[int, int]], time: int) -> np.ndarray:
    """The frame that is shown from `time` on, decoded from the key frame before: some formats
    seek by the time of decoding, which may lead behind it.
    """
    _, begin = max((key for key in keys if key[0] <= time), default=(0, 0))
    container.seek(begin, stream=stream)
    for frame in container.decode(stream):
        if _time(frame) >= time:
            return frame.to_ndarray(format="rgb24")
    raise ValueError(f"it ends before its frame at {float(time * stream.time_base):.2f} s")


def _time(part: Any) -> int:
    """Of a packet or a frame, in the stream's units; some files tell only when to decode."""
    time = part.dts if part.pts is None else part.pts
    if time is None:
        raise ValueError("its frames have no times")
    return time
