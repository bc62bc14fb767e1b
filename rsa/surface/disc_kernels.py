"""Compiled kernels for discs on a mesh: nearest vertices in a graph, and straight lines across triangles.

Both release the global interpreter lock and run in one thread; callers run chunks of vertices in several threads.
"""

from __future__ import annotations

import numpy as np

from brainmap.compiled import njit


@njit(nogil=True, cache=True)
def _raise_entry(heap, place, far, start):  # type: ignore[no-untyped-def]
    """Move an entry of the heap up to its place; at equal distance, the vertex with the smaller number comes first."""
    k, vertex = start, heap[start]
    while k > 0:
        above = (k - 1) >> 1
        other = heap[above]
        if far[other] < far[vertex] or (far[other] == far[vertex] and other < vertex):
            break
        heap[k] = other
        place[other] = k
        k = above
    heap[k] = vertex
    place[vertex] = k


@njit(nogil=True, cache=True)
def _pop_nearest(heap, place, far, size):  # type: ignore[no-untyped-def]
    """Remove the nearest entry from a heap of `size` entries."""
    nearest, moved = heap[0], heap[size - 1]
    size -= 1
    k = 0
    while 2 * k + 1 < size:
        below = 2 * k + 1
        one = heap[below]
        if below + 1 < size:
            two = heap[below + 1]
            if far[two] < far[one] or (far[two] == far[one] and two < one):
                below, one = below + 1, two
        if far[moved] < far[one] or (far[moved] == far[one] and moved < one):
            break
        heap[k] = one
        place[one] = k
        k = below
    if size > 0:
        heap[k] = moved
        place[moved] = k
    return nearest


@njit(nogil=True, cache=True)
def _grow_array(array, least):  # type: ignore[no-untyped-def]
    """Return the array with room for at least `least` entries."""
    if array.shape[0] >= least:
        return array
    larger = np.empty(max(2 * array.shape[0], least), array.dtype)
    larger[: array.shape[0]] = array
    return larger


@njit(nogil=True, cache=True)
def find_nearest_vertices(graph, number, centers, radius, most):  # type: ignore[no-untyped-def]
    """Find the members of a disc around each center, the nearest first.

    This is Dijkstra's algorithm with an indexed binary heap, stopped at the radius.

    Parameters
    ----------
    graph : tuple of int64 (n_vertices + 1,), int32 (n_links,), float64 (n_links,)
        Start of each vertex's links, their end vertices, and their lengths, the shortest first.
    number : int32 (n_vertices,)
        Number of each vertex in the result; paths may pass through a vertex of -1, but it belongs to no disc.
    centers : int32 (n_centers,)
    radius : float
        Vertices at a distance `<=` this radius belong to the disc.
    most : int
        Largest number of members of a disc.

    Returns
    -------
    starts : int64 (n_centers + 1,)
    members : int32 (n_members,)
    distances : float64 (n_members,)
    """
    first, leads, long = graph
    n = number.size
    far, place, heap = np.full(n, np.inf), np.full(n, -1, np.int32), np.empty(n, np.int32)
    seen = np.empty(n, np.int32)
    starts = np.zeros(centers.size + 1, np.int64)
    members, distances = np.empty(64 * centers.size, np.int32), np.empty(64 * centers.size)
    total = 0
    for c in range(centers.size):
        heap[0] = seen[0] = centers[c]
        far[centers[c]] = 0.0
        place[centers[c]] = 0
        size, n_seen, begin = 1, 1, total
        while size > 0 and total - begin < most:
            vertex = _pop_nearest(heap, place, far, size)
            size -= 1
            if number[vertex] >= 0:
                members = _grow_array(members, total + 1)
                distances = _grow_array(distances, total + 1)
                members[total], distances[total] = number[vertex], far[vertex]
                total += 1
            for link in range(first[vertex], first[vertex + 1]):
                reached, other = far[vertex] + long[link], leads[link]
                if reached > radius:
                    break  # the remaining links are longer
                if reached < far[other]:
                    if place[other] < 0:
                        heap[size] = seen[n_seen] = other
                        place[other] = size
                        size += 1
                        n_seen += 1
                    far[other] = reached
                    _raise_entry(heap, place, far, place[other])
        starts[c + 1] = total
        for k in range(n_seen):
            far[seen[k]], place[seen[k]] = np.inf, -1
    return starts, members[:total].copy(), distances[:total].copy()


@njit(nogil=True, cache=True)
def _is_hidden(window, to_right, to_left, reach):  # type: ignore[no-untyped-def]
    """Return whether a window is useless: it begins beyond the reach, or shorter paths lead through its ends.

    The test follows Xin & Wang (2009, doi:10.1145/1559755.1559761): if even the far end of a window is reached sooner
    by way of the edge's other vertex, no shortest path passes through the window.
    """
    right_x, right_y, left_x, left_y = window[1], window[2], window[3], window[4]
    across_x, across_y = left_x - right_x, left_y - right_y
    one = right_x * window[6] - right_y * window[5]
    other = left_x * window[6] - left_y * window[5]
    begin = min(max(one / (one - other), 0.0), 1.0) if one != other else 0.0
    one = right_x * window[8] - right_y * window[7]
    other = left_x * window[8] - left_y * window[7]
    end = min(max(one / (one - other), 0.0), 1.0) if one != other else 1.0
    power = across_x * across_x + across_y * across_y
    nearest = min(max(-(right_x * across_x + right_y * across_y) / power, begin), end)
    if np.hypot(right_x + nearest * across_x, right_y + nearest * across_y) > reach:
        return True
    long = np.sqrt(power)
    to_begin = np.hypot(right_x + begin * across_x, right_y + begin * across_y)
    to_end = np.hypot(right_x + end * across_x, right_y + end * across_y)
    slack = 1.0 + 1e-12
    return to_end > (to_right + end * long) * slack or to_begin > (to_left + (1.0 - begin) * long) * slack


@njit(nogil=True, cache=True)
def _push_window(stack, size, window, beyond, limits):  # type: ignore[no-untyped-def]
    """Push a window on the stack unless it is empty, leads out of the mesh, or is useless."""
    to_right, to_left, reach = limits
    if beyond < 0 or window[5] * window[8] - window[6] * window[7] <= 0.0:
        return stack, size
    if _is_hidden(window, to_right, to_left, reach):
        return stack, size
    if size == stack.shape[0]:
        larger = np.empty((2 * size, 10))
        larger[:size] = stack
        stack = larger
    stack[size, :9] = window
    stack[size, 9] = beyond
    return stack, size + 1


@njit(nogil=True, cache=True)
def _record_line(far, seen, n_seen, vertex, distance):  # type: ignore[no-untyped-def]
    """Record a line to a vertex."""
    if far[vertex] == np.inf:
        seen[n_seen] = vertex
        n_seen += 1
    far[vertex] = min(far[vertex], distance)
    return n_seen


@njit(nogil=True, cache=True)
def _unfold_first(faces, corner, window):  # type: ignore[no-untyped-def]
    """Lay out a triangle with the source at the origin, its next corner on the axis and its last corner to the left."""
    corners, _, _, _, edge = faces
    t, k = corner // 3, corner % 3
    one, two = edge[t, (k + 2) % 3], edge[t, (k + 1) % 3]
    cosine = (one * one + two * two - edge[t, k] ** 2) / (2.0 * one * two) if one * two > 0.0 else 1.0
    cosine = min(max(cosine, -1.0), 1.0)
    window[0], window[1], window[2] = corners[t, (k + 1) % 3], one, 0.0
    window[3], window[4] = two * cosine, two * np.sqrt(1.0 - cosine * cosine)
    window[5:9] = window[1:5]
    return corners[t, (k + 1) % 3], one, corners[t, (k + 2) % 3], two


@njit(nogil=True, cache=True)
def trace_lines_of_sight(faces, around, sources, reach):  # type: ignore[no-untyped-def]
    """Find the straight lines from each source to all visible vertices, across the triangles unfolded into a plane.

    Triangles are unfolded into the plane of the source, edge by edge. A window is the visible part of an edge; a
    vertex within it is reached by a straight line and splits the window in two.

    Parameters
    ----------
    faces : tuple of int32, int32, float64, float64, float64, each (n_triangles, 3)
        Vertices; the corner `3 * triangle + k` beyond the edge opposite corner k, -1 at the border; the position of
        corner k along that edge (0 at its first end) and its height above it, both in units of the edge length; the
        edge length.
    around : tuple of int64 (n_vertices + 1,), int32 (n_corners,)
        Corners at each vertex.
    sources : int32 (n_sources,)
    reach : float

    Returns
    -------
    starts : int64 (n_sources + 1,)
    met : int32 (n_lines,)
    lengths : float64 (n_lines,)
        Length of the shortest line if several reach a vertex; lines of one source are unordered.
    """
    corners, beyond, along, high, _ = faces
    first, at = around
    far, seen = np.full(first.size - 1, np.inf), np.empty(first.size - 1, np.int32)
    starts = np.zeros(sources.size + 1, np.int64)
    met, lengths = np.empty(64 * sources.size, np.int32), np.empty(64 * sources.size)
    # A window holds its right end's vertex and position, its left end's position, the rays to both ends, and the
    # corner beyond.
    stack, window, now = np.empty((256, 10)), np.empty(9), np.empty(10)
    total = 0
    for s in range(sources.size):
        n_seen = size = 0
        for c in at[first[sources[s]] : first[sources[s] + 1]]:
            one, to_one, two, to_two = _unfold_first(faces, c, window)
            n_seen = _record_line(far, seen, n_seen, one, to_one)
            n_seen = _record_line(far, seen, n_seen, two, to_two)
            stack, size = _push_window(stack, size, window, beyond[c // 3, c % 3], (to_one, to_two, reach))
        while size > 0:
            size -= 1
            now[:] = stack[size]
            t, k = int(now[9]) // 3, int(now[9]) % 3
            forward = corners[t, (k + 1) % 3] == int(now[0])
            share = along[t, k] if forward else 1.0 - along[t, k]
            across_x, across_y = now[3] - now[1], now[4] - now[2]
            x = now[1] + share * across_x + high[t, k] * across_y
            y = now[2] + share * across_y - high[t, k] * across_x
            from_right, from_left = now[5] * y - now[6] * x, x * now[8] - y * now[7]
            inside = from_right >= 0.0 and from_left >= 0.0
            if inside and np.hypot(x, y) <= reach and corners[t, k] != sources[s]:
                n_seen = _record_line(far, seen, n_seen, corners[t, k], np.hypot(x, y))
            right, left = ((k + 1) % 3, (k + 2) % 3) if forward else ((k + 2) % 3, (k + 1) % 3)
            if from_right > 0.0:  # the edge between the right end and the top
                window[:] = now[:9]
                window[3], window[4] = x, y
                if inside:
                    window[7], window[8] = x, y
                limits = far[corners[t, right]], far[corners[t, k]], reach
                stack, size = _push_window(stack, size, window, beyond[t, left], limits)
            if from_left > 0.0:  # the edge between the top and the left end
                window[:] = now[:9]
                window[0], window[1], window[2] = corners[t, k], x, y
                if inside:
                    window[5], window[6] = x, y
                limits = far[corners[t, k]], far[corners[t, left]], reach
                stack, size = _push_window(stack, size, window, beyond[t, right], limits)
        met, lengths = _grow_array(met, total + n_seen), _grow_array(lengths, total + n_seen)
        for k in range(n_seen):
            met[total + k], lengths[total + k] = seen[k], far[seen[k]]
            far[seen[k]] = np.inf
        total += n_seen
        starts[s + 1] = total
    return starts, met[:total].copy(), lengths[:total].copy()
