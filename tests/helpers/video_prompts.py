"""Whose videos, and images beside them, are whose in the batches of the tiny families."""

from collections.abc import Mapping

Parts = Mapping[str, slice]


def parts(*names: str, of: tuple[slice, slice]) -> dict[int, Parts]:
    """The same part of some arguments, of each prompt."""
    return {row: dict.fromkeys(names, own) for row, own in enumerate(of)}


ONE_EACH = slice(0, 1), slice(1, 2)
_VIDEOS = parts("pixel_values_videos", of=ONE_EACH)
_ON_AXES = parts("image_grid_thw", "video_grid_thw", "second_per_grid_ts", of=ONE_EACH)
OWN_VIDEOS: dict[str, dict[int, Parts]] = {
    "onevision_videos": _VIDEOS,
    "llava_next_video": {
        0: {"pixel_values": slice(1), "image_sizes": slice(1), **_VIDEOS[0]},
        1: _VIDEOS[1],
    },
    # transformers before 5.23 names the pixels of its images otherwise
    "video_llava": {
        0: _VIDEOS[0],
        1: {"pixel_values": slice(1), "pixel_values_images": slice(1), **_VIDEOS[1]},
    },
    "internvl_frames": parts("pixel_values", of=(slice(0, 5), slice(5, 9))),
}
BOTH: dict[str, dict[int, Parts]] = {
    "qwen2_5_vl_both": {
        0: {"pixel_values": slice(32), "pixel_values_videos": slice(144), **_ON_AXES[0]},
        1: {"pixel_values": slice(32, 64), "pixel_values_videos": slice(144, 264), **_ON_AXES[1]},
    }
}
"""Of each prompt its rows of what is given for images and videos."""
