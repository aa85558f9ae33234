"""Methods that cut videos, what they are asked for, and what they kept."""

from __future__ import annotations

import torch
from forbidden_keys import visual_places
from torch import Tensor
from tower_methods import FRAMEWISE

from methods import Budget, get_method
from methods.clips import clips_of
from methods.interface import Cut

ON_ONE_AXIS = (
    *("onevision_videos", "llava_next_video", "video_llava"),
    "internvl_frames",
)
ON_AXES = ("qwen2_vl_video", "qwen2_5_vl_video", "qwen2_5_vl_both", "qwen3_vl_video")
FASTVID = get_method("fastvid", segments=3, threshold=0.5, context=0.6)
MERGING = {"fastvid": FASTVID, "visionzip": get_method("visionzip")}


def share_of(family: str) -> Budget:
    """One that all can meet: an image beside a video stays whole."""
    beside_images = {"llava_next_video": 0.9, "qwen3_vl_video": 0.84}
    return Budget(fraction=beside_images.get(family, 0.75))


IN_DECODER = {
    "vidcom2": get_method("vidcom2"),
    "frames": get_method("frames"),
    "dycoke": get_method("dycoke"),
    "dycoke:raster": get_method("dycoke", raster=True),
}
BY_FRAME = {name: get_method(name) for name in FRAMEWISE}
OF_TOWER = ("onevision_videos", "llava_next_video", "video_llava", "qwen2_5_vl_video")
"""Families of whose frames the tower shows what their tokens receive."""


def images_stay(prefill, row: int) -> bool:
    """Whether what is in no clip was kept whole."""
    sizes = prefill.sizes[row]
    staying = torch.ones(sizes.tokens, dtype=torch.bool)
    for clip in clips_of("", sizes):
        staying[clip.start : clip.end] = False
    return set(staying.nonzero()[:, 0].tolist()) <= set(cut_of(prefill, row).anchors[0].tolist())


def cut_of(prefill, row: int) -> Cut:
    """A prompt's only cut."""
    ((at, cut),) = (
        (selection.rows.index(row), selection.cut)
        for selection in prefill.selections
        if row in selection.rows
    )
    parts = (cut.anchors, cut.groups, cut.add_anchor, cut.weights)
    return Cut(*(None if part is None else part[at : at + 1] for part in parts))


def in_order(prefill, inputs) -> list[Tensor]:
    """Places of each prompt that are left, in the order in which they follow one another."""
    found = []
    for row, visual in enumerate(visual_places(inputs)):
        places = visual.nonzero()[:, 0][cut_of(prefill, row).anchors[0]]
        text = (~visual & inputs["attention_mask"][row].bool()).nonzero()[:, 0]
        # a row follows everything up to the furthest of those before it
        after = torch.cat([text, places.cummax(0).values])
        found.append(torch.cat([text, places])[after.argsort(stable=True)])
    return found
