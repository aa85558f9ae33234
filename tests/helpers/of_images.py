"""The methods that are defined for one image."""

from methods import methods

OF_ONE_IMAGE = [
    name for name, method in methods().items() if method.fewest_frames == 1 and not method.resizes
]
CUTTING_ONE_IMAGE = [name for name in OF_ONE_IMAGE if name != "unpruned"]
