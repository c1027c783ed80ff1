"""Photos that are nearly the same: shots of one series, scaled or compressed copies."""

from collections.abc import Iterable

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Two photos whose 64-bit difference hashes differ in at most this many bits are near-duplicates.
NEAR_DUPLICATE_BITS = 6


def difference_hash(image: Image.Image) -> int:
    """64-bit dHash (Krawetz, 2013): is each pixel of a 9 x 8 grey thumbnail brighter than its left neighbour?"""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def group_near_duplicates(hashes: list[int], together: Iterable[tuple[int, int]] = ()) -> list[list[int]]:
    """Positions of `hashes` in groups: photos within `NEAR_DUPLICATE_BITS` of each other, directly or in a chain.

    Pairs of positions in `together` share a group whatever their hashes. Most groups hold one photo. All pairs of
    different hashes are compared, row by row: 14,000 photos take about a second.
    """
    values, first, which = np.unique(np.array(hashes, np.uint64), return_index=True, return_inverse=True)
    equal_hashes = enumerate(first[which])  # so that a thousand copies give a thousand pairs, not half a million
    pairs = [np.array([*equal_hashes, *together], np.intp).reshape(-1, 2)]
    for row in range(len(values) - 1):
        near = row + 1 + np.flatnonzero(np.bitwise_count(values[row + 1 :] ^ values[row]) <= NEAR_DUPLICATE_BITS)
        pairs.append(np.stack([np.full(len(near), first[row]), first[near]], axis=1))
    edges = np.concatenate(pairs).T
    graph = coo_array((np.ones(edges.shape[1], bool), edges), shape=(len(hashes),) * 2)
    groups: dict[int, list[int]] = {}
    for position, group in enumerate(connected_components(graph, directed=False)[1].tolist()):
        groups.setdefault(group, []).append(position)
    return list(groups.values())
