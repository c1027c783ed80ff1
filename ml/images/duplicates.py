"""Photos that are nearly the same: shots of one series, scaled or compressed copies."""

import numpy as np
from PIL import Image

# Two photos whose 64-bit difference hashes differ in at most this many bits are near-duplicates.
NEAR_DUPLICATE_BITS = 6


def difference_hash(image: Image.Image) -> int:
    """64-bit dHash (Krawetz, 2013): is each pixel of a 9 x 8 grey thumbnail brighter than its left neighbour?"""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def group_near_duplicates(hashes: list[int]) -> list[list[int]]:
    """Positions of `hashes` in groups: photos within `NEAR_DUPLICATE_BITS` of each other, directly or in a chain.

    Most groups hold one photo. All pairs are compared, row by row: 14,000 photos take about a second.
    """
    values = np.array(hashes, np.uint64)
    group_of = [[position] for position in range(len(hashes))]
    for position in range(len(hashes) - 1):
        later = values[position + 1 :]
        for step in np.flatnonzero(np.bitwise_count(later ^ values[position]) <= NEAR_DUPLICATE_BITS):
            group, other = group_of[position], group_of[position + 1 + step]
            if group is not other:
                group.extend(other)
                for member in other:
                    group_of[member] = group
    return sorted({id(group): sorted(group) for group in group_of}.values())
