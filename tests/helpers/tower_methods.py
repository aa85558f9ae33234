"""Which methods with stages in the vision tower are defined for which tiny family, and whose images
are whose in its batch.
"""

CROPS = (
    *("visionzip", "fastervlm", "vispruner", "scope", "hiprune", "hired", "holov"),
    *("prumerge", "vscan", "vitcop"),
)
IN_TOWER = {
    **dict.fromkeys(("qwen2_5_vl", "qwen2_5_vl_video"), ("visionzip",)),
    "llava_next": CROPS,
}
OWN_IMAGES = {
    "llava_next": {0: slice(0, 2), 1: slice(2, 3)},
    "internvl": {0: slice(0, 4), 1: slice(4, 9)},
}
"""Of each prompt its rows of `pixel_values`."""
