"""Which methods with stages in the vision tower are defined for which tiny family, and whose images
are whose in its batch.
"""

CROPS = (
    *("visionzip", "fastervlm", "vispruner", "scope", "hiprune", "hired", "holov"),
    *("prumerge", "vscan", "vitcop"),
)
FRAMEWISE = ("fastervlm", "hired", "vispruner", "holov", "scope")
"""Those that keep of each frame what they keep of an image."""
IN_TOWER = {
    **dict.fromkeys(
        ("qwen2_5_vl", "qwen2_5_vl_video", "qwen2_5_vl_both"),
        ("visionzip", "hiprune", "vitcop", *FRAMEWISE),
    ),
    **dict.fromkeys(("llava_next", "onevision", "onevision_crops", "onevision_with_video"), CROPS),
    **dict.fromkeys(("internvl", "internvl_frames", "idefics3", "smolvlm"), CROPS),
    **dict.fromkeys(("onevision_videos", "llava_next_video"), CROPS),
    "video_llava": ("visionzip", "hiprune", "vitcop", *FRAMEWISE),
}


def images(first: int, last: int, *more: str) -> dict[str, slice]:
    """The same part of all arguments that have a row an image."""
    return dict.fromkeys(("pixel_values", *more), slice(first, last))


OWN_IMAGES = {
    "llava_next": {0: images(0, 2, "image_sizes"), 1: images(2, 3, "image_sizes")},
    "onevision": {
        0: images(0, 2, "image_sizes") | {"batch_num_images": slice(0, 1)},
        1: images(2, 3, "image_sizes") | {"batch_num_images": slice(1, 2)},
    },
    "onevision_crops": {0: images(0, 1, "image_sizes"), 1: images(1, 2, "image_sizes")},
    "internvl": {0: images(0, 4), 1: images(4, 9)},
    "smolvlm": {0: images(0, 1), 1: images(1, 2)},
}
"""Of each prompt its rows of what is given for images."""
