"""Compile kernels for clusters on a graph of neighbors: the exact TFCE integral, and the mass of clusters.

A graph is (starts, others, sizes): the neighbors of place k are others[starts[k]:starts[k + 1]], and sizes[k] is its
contribution to the extent (1 per voxel, the area in mm2 per vertex). Kernels are `nogil` and run in one thread.
"""

from __future__ import annotations

import numpy as np

from brainmap.compiled import njit

_BITS = 11
_BINS = 1 << _BITS


@njit(nogil=True, cache=True)
def _sort_descending(values, found, spare, keys, counts):  # type: ignore[no-untyped-def]
    """Sort the places of the values above 0 in descending order, and return their number.

    Three radix passes over the bits of the values in single precision almost sort them (the bits of positive floats
    have the order of the floats), and an insertion sort completes the order in double precision.
    """
    n = 0
    for k in range(values.size):
        if values[k] > 0.0:
            found[n] = k
            keys[k] = values[k]
            n += 1
    bits = keys.view(np.uint32)
    source, target = found, spare
    for turn in range(3):
        shift = np.uint32(turn * _BITS)
        counts[:] = 0
        for k in range(n):
            counts[_BINS - 1 - ((bits[source[k]] >> shift) & np.uint32(_BINS - 1))] += 1
        total = 0
        for b in range(_BINS):
            total, counts[b] = total + counts[b], total
        for k in range(n):
            b = _BINS - 1 - ((bits[source[k]] >> shift) & np.uint32(_BINS - 1))
            target[counts[b]] = source[k]
            counts[b] += 1
        source, target = target, source
    for k in range(n):  # an odd number of passes ended in `spare`
        place, value, q = source[k], values[source[k]], k
        while q > 0 and values[found[q - 1]] < value:
            found[q] = found[q - 1]
            q -= 1
        found[q] = place
    return n


@njit(nogil=True, cache=True)
def _find_root(parent, gain, k):  # type: ignore[no-untyped-def]
    """Find the root of a place's cluster, with path halving that preserves the sum of gains along the path."""
    while parent[k] != k:
        above = parent[k]
        if parent[above] != above:
            gain[k] += gain[above]
            parent[k] = parent[above]
        k = parent[k]
    return k


@njit(nogil=True, cache=True)
def _climb_places(values, graph, powers, sign, work, out):  # type: ignore[no-untyped-def]
    """Write the TFCE of the places whose value has this sign, and return the largest.

    Places are added from the highest to the lowest, and clusters merge when they touch. Between two heights at which
    a cluster changes, its extent e is constant, so that its part of the integral of e^E h^H dh has the closed form
    e^E (h1^(H + 1) - h0^(H + 1)) / (H + 1), and no step size is needed. The integral of a place is the sum of the
    gains from it up to the root of its cluster.
    """
    starts, others, sizes = graph
    order, spare, keys, counts, parent, gain, extent, level, side = work
    for k in range(values.size):
        side[k] = sign * values[k]
        parent[k] = -1
    wide, high = powers[0], powers[1] + 1.0
    root, square = wide == 0.5, high == 3.0  # the usual powers, without pow
    n = _sort_descending(side, order, spare, keys, counts)
    for k in range(n):
        place = order[k]
        value = side[place]
        height = value * value * value / 3.0 if square else value**high / high
        parent[place], gain[place], extent[place], level[place] = place, 0.0, sizes[place], height
        mine = place
        for e in range(starts[place], starts[place + 1]):
            if parent[others[e]] < 0:
                continue
            other = _find_root(parent, gain, others[e])
            if other == mine:
                continue
            share = np.sqrt(extent[other]) if root else extent[other] ** wide
            gain[other] += share * (level[other] - height)
            level[other] = height
            if extent[other] > extent[mine]:
                mine, other = other, mine
            parent[other] = mine
            extent[mine] += extent[other]
            gain[other] -= gain[mine]
    largest = 0.0
    for k in range(n):
        place = order[k]
        if parent[place] == place:
            gain[place] += (np.sqrt(extent[place]) if root else extent[place] ** wide) * level[place]
    for k in range(n):
        place = order[k]
        above, total = place, gain[place]
        while parent[above] != above:
            above = parent[above]
            total += gain[above]
        out[place] = sign * total
        largest = max(largest, total)
    return largest


@njit(nogil=True, cache=True)
def enhance_rows(maps, graph, powers, two_sided, out):  # type: ignore[no-untyped-def]
    """Compute the largest TFCE of each row of `maps` (n_maps, n_places); `out` (n_places,) holds the last row's TFCE.

    Parameters
    ----------
    maps : float64 (n_maps, n_places)
    graph : (int32 (n_places + 1,), int32 (n_neighbors,), float64 (n_places,))
    powers : (float, float)
        The powers E of extent and H of height.
    two_sided : bool
        Whether values below 0 form clusters of their own, with a TFCE below 0.
    out : float64 (n_places,)
    """
    n = maps.shape[1]
    largest = np.zeros(maps.shape[0])
    work = (
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.float32),
        np.empty(_BINS, np.int64),
        np.empty(n, np.int32),
        np.empty(n),
        np.empty(n),
        np.empty(n),
        np.empty(n),
    )
    for row in range(maps.shape[0]):
        out[:] = 0.0
        largest[row] = _climb_places(maps[row], graph, powers, 1.0, work, out)
        if two_sided:
            largest[row] = max(largest[row], _climb_places(maps[row], graph, powers, -1.0, work, out))
    return largest


@njit(nogil=True, cache=True)
def sum_mass_rows(maps, graph, threshold, two_sided, out):  # type: ignore[no-untyped-def]
    """Compute the largest cluster mass of each row of `maps`; `out` holds the last row's signed mass, 0 elsewhere.

    The mass of a cluster is the sum of (|value| - threshold) * size over its places.
    """
    starts, others, sizes = graph
    n = maps.shape[1]
    largest = np.zeros(maps.shape[0])
    seen, members = np.empty(n, np.bool_), np.empty(n, np.int32)
    for row in range(maps.shape[0]):
        values = maps[row]
        out[:] = 0.0
        seen[:] = False
        for first in range(n):
            if seen[first] or not (values[first] > threshold or (two_sided and values[first] < -threshold)):
                continue
            sign = 1.0 if values[first] > 0 else -1.0
            members[0], seen[first], count, done, mass = first, True, 1, 0, 0.0
            while done < count:
                place = members[done]
                done += 1
                mass += (sign * values[place] - threshold) * sizes[place]
                for e in range(starts[place], starts[place + 1]):
                    other = others[e]
                    if not seen[other] and sign * values[other] > threshold:
                        seen[other] = True
                        members[count] = other
                        count += 1
            for k in range(count):
                out[members[k]] = sign * mass
            largest[row] = max(largest[row], mass)
    return largest
