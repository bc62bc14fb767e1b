"""Estimate the time and the memory of a study from its size, before anything is computed.

The time of a stage is a sum of counts (multiplications in spheres, pairs that are ranked, steps of the ascent) times
the time of one of them on one core. These times were measured once (`benchmarks/growth.py` measures them again) and are
scaled by how fast this machine multiplies. The table in docs/performance.md comes from the same functions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from brainmap.checks import count_threads
from brainmap.resources import find_available_memory, format_bytes, format_seconds

Counts = Mapping[str, float]

NANOSECONDS: dict[str, float] = {
    "multiplication": 0.08,  # and addition, in a product of matrices
    "standardized value": 4.0,  # of a pattern that is copied to a sphere and standardized there
    "moved value": 3.0,  # of a pattern that enters or leaves a sphere
    "sphere": 9000.0,  # whatever it holds
    "member": 4.0,  # a voxel of a sphere
    "pair": 1.5,  # a dissimilarity of two items
    "ranked pair": 12.0,
    "pair and model": 0.35,  # a product of a dissimilarity with a model
    "pair and participant": 3.0,  # of noise ceilings
    "flipped place": 2.5,  # a place under a flip of participants' signs
    "flipped score": 0.07,
    "enhanced place": 60.0,  # a place under a flip, for TFCE and cluster mass
    "read byte": 5.0,  # of a compressed image
    "fitted value": 40.0,  # of BOLD, at a voxel and a time
    "network product": 0.22,  # a multiplication and addition in a pass through a network
    "climbed product": 0.08,  # of a pass through a network and back, in a step of an ascent
    "decoded step": 3.0e6,  # of a pattern that the decoder of speech makes
    "resampled pair": 4.0,  # of a bootstrap or relabeling, for a model or an RDM
    "cubed item": 0.5,  # a decomposition of items x items
    "second": 1e9,
}
"""Time of one on a core of the machine where they were measured [ns]."""
SPEED = 22.0
"""What `measure_speed` gave there [multiplications per ns]."""
COMPILING = 30.0
"""Time until the kernels are compiled, once for each version of brainmap [s]."""
_BYTES = 450e6  # Python, torch, numba, and what they load
_PAGE_BYTES = 900e6  # figures of the page
_JUDGE_BYTES = 500e6  # networks and decoder of maximizing patterns
ENOUGH_STEPS = 2000
"""Steps of patterns of classes, below which a second process that explains layers saves less than its imports take."""
MOST_HELD = 1 << 30  # bytes of patterns, and of ranks, that participants' searchlights keep for noise ceilings
_TOGETHER = 8  # patterns that climb together, on one core
_HALVINGS, _FOLDS, _ALPHAS = 20, 5, 13


@dataclass(frozen=True, kw_only=True)
class Network:
    """Hold the size of a network: what it computes for a sound, and how many layers become models.

    Attributes
    ----------
    products : float
        Multiplications of a forward pass of one sound.
    layers : int
    units : int
        Units of all layers, after pooling.
    versions : int
        1, and one for each control.
    """

    products: float
    layers: int
    units: int
    versions: int = 1


@dataclass(frozen=True, kw_only=True)
class Light:
    """Hold the size of the searchlight of one participant, and how group maps are tested.

    Attributes
    ----------
    voxels : int
        Voxels of the brain mask, or vertices.
    sphere : int
        Voxels of a sphere, or vertices of a disc.
    slides : bool
        Whether products are updated from sphere to sphere (crossnobis, euclidean, or one run).
    ranked : bool
    per_sphere : bool
        Whether each sphere has a noise covariance.
    permutations : int
    enhanced : bool
        Whether TFCE or cluster mass corrects the group maps.
    ceilings : bool
    differences : int
        Differences of layers that are tested beside the layers.
    """

    voxels: int
    sphere: int
    slides: bool = False
    ranked: bool = True
    per_sphere: bool = False
    permutations: int = 5000
    enhanced: bool = False
    ceilings: bool = True
    differences: int = 0


@dataclass(frozen=True, kw_only=True)
class Explained:
    """Hold the size of what is explained: classes and channels whose patterns are maximized.

    Attributes
    ----------
    network : Network
    classes, channels : int
        Patterns of classes, by one prior, and of channels of layers.
    steps : int
    decoded : bool
        Whether classes also have patterns by the decoder of speech.
    judged : bool
        Whether other networks judge the patterns of classes.
    """

    network: Network
    classes: int
    channels: int
    steps: int
    decoded: bool = True
    judged: bool = True


@dataclass(frozen=True, kw_only=True)
class Size:
    """Hold the size of a study.

    Attributes
    ----------
    sounds : int
    items : int
        Rows of the RDMs: sounds, or their conditions.
    participants : int
    runs, patterns : int
        Runs of a participant, and volumes with a pattern over all of them.
    grid : int
        Voxels of an image, or vertices.
    regions : tuple of int
        Voxels of each region.
    networks : tuple of Network
    crossnobis : bool
        Whether regions are compared by distances that weigh voxels by their noise.
    light : Light, optional
    explained : Explained, optional
    bootstrap, permutations : int
        Resamples, and relabelings of sounds.
    encoded : int
        Targets of the encoding models of a participant; 0 without them.
    bold_volumes : int
        Volumes of BOLD over all runs of a participant; 0 with betas.
    """

    sounds: int
    items: int
    participants: int
    runs: int
    patterns: int
    grid: int
    regions: tuple[int, ...]
    networks: tuple[Network, ...]
    crossnobis: bool = True
    light: Light | None = None
    explained: Explained | None = None
    bootstrap: int = 1000
    permutations: int = 2000
    encoded: int = 0
    encoding_permutations: int = 1000
    bold_volumes: int = 0

    @property
    def models(self) -> int:
        """Return the number of model RDMs: layers of all networks and their controls."""
        return sum(one.layers * one.versions for one in self.networks)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Hold what a study is estimated to take.

    Attributes
    ----------
    seconds : mapping of str to float
        Time of each part, on the cores that it uses; of explanations, what they add to the parts beside which a second
        process makes them.
    cpu_seconds : float
        Time of the processor, of all parts.
    n_bytes : float
        Largest amount of memory.
    cores : int
    """

    seconds: Mapping[str, float]
    cpu_seconds: float
    n_bytes: float
    cores: int

    @property
    def total(self) -> float:
        """Return the time of all parts."""
        return sum(self.seconds.values())

    def describe(self) -> str:
        """Describe the estimate in a line, with the parts that take longest, what it counts and what it does not."""
        longest = sorted(self.seconds, key=lambda name: -self.seconds[name])
        named = ", ".join(f"{name} {format_seconds(self.seconds[name])}" for name in longest)
        return (
            f"about {format_seconds(self.total)} on {self.cores} core{'s' if self.cores > 1 else ''}, "
            f"{format_bytes(self.n_bytes)} of memory, for a run from the beginning, within a factor of about 2 "
            f"({named}; the first run of a version compiles for some {COMPILING:.0f} s more; other programs are not "
            "counted)"
        )


def measure_speed() -> float:
    """Measure how many multiplications (and additions) of a matrix product this machine makes [per ns of a core]."""
    x = np.linspace(0.0, 1.0, 256 * 256).reshape(256, 256)
    x @ x  # the first product starts threads and fills caches
    best = np.inf
    for _ in range(5):
        start = time.thread_time_ns()
        x @ x
        best = min(best, time.thread_time_ns() - start)
    return len(x) ** 3 / best


def describe_here(size: Size) -> str:
    """Describe what a study takes on this machine, and whether it has the memory."""
    found = estimate(size, cores=count_threads(None, "estimate"), speed=measure_speed())
    available = find_available_memory()
    short = available is not None and found.n_bytes > available
    return found.describe() + (f"; only {format_bytes(available or 0)} of memory are available" if short else "")


def estimate(size: Size, *, cores: int, speed: float = SPEED) -> Estimate:
    """Estimate time and memory of a study.

    Parameters
    ----------
    size : Size
    cores : int
    speed : float
        From `measure_speed`.
    """
    parts: dict[str, tuple[Counts, float]] = {
        "start": ({"second": 5.0}, 1),
        "networks": (count_networks(size), min(cores, 4)),
        "betas": (count_betas(size), 1),
        "regions": (count_regions(size), 1),
        "encoding models": (count_encoding(size), 1),
        "explanations": (count_explanations(size), cores),
        "page": (count_page(size), min(cores, 1.5)),  # figures are drawn by two processes, and the rest by one
    }
    if size.light is not None:
        spheres = count_spheres(size.light, size.items, size.runs, size.models)
        parts["searchlights"] = (_multiply(spheres, size.participants), cores)
        parts["group maps"] = (count_group_maps(size), cores if size.light.enhanced else 1)
        if size.light.ceilings and size.participants > 1:
            parts["noise ceilings"] = (count_ceilings(size), cores)
    slower = SPEED / speed
    cpu = {name: price(counts) * slower for name, (counts, _) in parts.items()}
    seconds = {name: cpu[name] / used for name, (_, used) in parts.items() if cpu[name] > 0}
    taken = _count_beside(size, cores)
    if taken:
        beside = {
            name: (cpu[name], parts[name][1]) for name in seconds if name not in ("start", "explanations", "page")
        }
        seconds["explanations"] = _add_explanations(cpu["explanations"], beside, taken)
    return Estimate(seconds=seconds, cpu_seconds=sum(cpu.values()), n_bytes=count_bytes(size, cores), cores=cores)


def _count_beside(size: Size, cores: int) -> int:
    """Count the cores on which a second process explains layers, while the others do all but the page; 0 without it."""
    asked = size.explained
    if asked is None or cores < 2 or asked.steps * asked.classes < ENOUGH_STEPS:
        return 0
    return min(cores // 2, -(-asked.classes // _TOGETHER))


def _add_explanations(cpu: float, beside: Mapping[str, tuple[float, float]], taken: int) -> float:
    """Compute what explanations add to the time of the parts beside which they are made [s].

    Parameters
    ----------
    cpu : float [s]
        Time of explanations on one core.
    beside : mapping of str to (float, float)
        Time of each of these parts on one core [s], and the cores that it uses when it has them all.
    taken : int
        Cores that it has less while layers are explained; one is always left.
    """
    own, alone = cpu / taken, sum(one / used for one, used in beside.values())
    together = sum(one / max(1.0, used - taken) for one, used in beside.values())
    return own - alone if own > together else own * (1 - alone / together)


def price(counts: Counts) -> float:
    """Return the time of counts on one core of the machine where times were measured [s]."""
    return sum(n * NANOSECONDS[name] for name, n in counts.items()) * 1e-9


def _multiply(counts: Counts, n: float) -> Counts:
    return {name: value * n for name, value in counts.items()}


def _add(*every: Counts) -> Counts:
    return {name: sum(one.get(name, 0.0) for one in every) for name in dict.fromkeys(chain(*every))}


def _count_pairs(items: int) -> float:
    return items * (items - 1) / 2


def count_networks(size: Size) -> Counts:
    """Count what the activations and RDMs of all networks and controls take."""
    versions = sum(one.versions for one in size.networks)
    products = sum(one.products * one.versions for one in size.networks)
    units = sum(one.units * one.versions for one in size.networks)
    return {
        "second": 0.5 * versions,
        "network product": size.sounds * products,
        "multiplication": size.items**2 * units + 20.0 * size.sounds * units,
        "pair": 10 * _count_pairs(size.items) * size.models,
    }


def count_betas(size: Size) -> Counts:
    """Count what the GLMs of all participants with BOLD take."""
    return {
        "read byte": 4.0 * size.grid * size.bold_volumes * size.participants,
        "fitted value": 0.3 * size.grid * size.bold_volumes * size.participants,  # a third of an image is brain
    }


def count_regions(size: Size) -> Counts:
    """Count what regions of all participants and their tests take, with the reading of images."""
    pairs, n_regions = _count_pairs(size.items), len(size.regions)
    halves = 2 * _HALVINGS * n_regions
    squares = sum(v**2 for v in size.regions) if size.crossnobis else 0
    cubes = sum(v**3 for v in size.regions) if size.crossnobis else 0
    rdms = size.runs * size.items * (squares + size.items * sum(size.regions))
    each: Counts = {
        "second": 1e-3 * halves,
        "read byte": 4.0 * size.grid * size.patterns,
        "multiplication": rdms * (1 + 2 * _HALVINGS) + size.runs * (cubes + squares * size.patterns),
        "pair": 4 * pairs * halves,
        "pair and model": pairs * size.models * n_regions,
    }
    drawn = size.bootstrap * (size.participants * n_regions + size.models)
    drawn += size.permutations * size.models * n_regions
    return _add(_multiply(each, size.participants), {"resampled pair": drawn * pairs, "second": 0.5})


def count_spheres(light: Light, items: int, runs: int, models: int) -> Counts:
    """Count what the searchlight of one participant takes."""
    pairs, sphere = _count_pairs(items), light.sphere
    counts: dict[str, float] = {
        "sphere": 1,
        "member": sphere,
        "pair": pairs,
        "ranked pair": pairs if light.ranked else 0,
        "pair and model": pairs * models,
    }
    if light.slides and not light.per_sphere:
        radius = max(1.0, (0.24 * sphere) ** (1 / 3))  # in voxels
        moved = min(sphere, 1.5 * sphere / radius) * runs
        counts |= {"multiplication": moved * items**2 / 2, "moved value": moved * items}
    else:
        products = max(1, runs - 1) * sphere
        counts |= {"multiplication": products * items**2, "standardized value": runs * sphere * items}
    if light.per_sphere:  # the covariance of a brick's union, a root, and the patterns through it
        shared = 37.0 * sphere * items * runs**2
        counts["multiplication"] += sphere**3 / 6 + sphere**2 * items * runs / 2 + shared
    return _multiply(counts, light.voxels)


def count_ceilings(size: Size) -> Counts:
    """Count what the noise ceilings of all spheres take: each RDM once more, unless searchlights kept the ranks."""
    assert size.light is not None
    pooled = {"pair and participant": size.light.voxels * _count_pairs(size.items) * size.participants}
    if _count_kept_ranks(size):
        return pooled
    each = count_spheres(size.light, size.items, size.runs, 0)
    return _add(_multiply(each, size.participants), pooled)


def _count_kept_ranks(size: Size) -> float:
    """Count the bytes of ranks that searchlights keep for noise ceilings; 0 where these compute them again."""
    light = size.light
    if light is None or light.slides or not light.ranked:
        return 0
    n_bytes = 2.0 * size.participants * light.voxels * _count_pairs(size.items)
    return n_bytes if n_bytes <= MOST_HELD else 0


def count_group_maps(size: Size) -> Counts:
    """Count what the tests of the searchlight maps take."""
    assert size.light is not None
    if size.participants < 2:
        return {}
    tested = sum(one.layers for one in size.networks) + size.light.differences
    places = min(2.0**size.participants, size.light.permutations) * tested * size.light.voxels
    return {
        "flipped place": places,
        "flipped score": places * size.participants,
        "enhanced place": places if size.light.enhanced else 0,
        "second": 0.1 * tested,
        "read byte": 4.0 * size.grid * tested * size.participants,
    }


def count_encoding(size: Size) -> Counts:
    """Count what encoding models of all participants take, with the refits under permutations."""
    if not size.encoded:
        return {}
    train, units = 0.8 * size.items, sum(one.units * one.versions for one in size.networks)
    refit = _FOLDS * _ALPHAS * train**2 * size.encoded
    return _multiply(
        {
            "multiplication": _FOLDS * size.items**2 * units + refit * (1 + size.encoding_permutations) * size.models,
            "cubed item": _FOLDS * (_FOLDS + 1) * train**3 * size.models,
            "second": 0.05 * size.models,
        },
        size.participants,
    )


def count_explanations(size: Size) -> Counts:
    """Count what maximizing patterns and class activation maps take."""
    asked = size.explained
    if asked is None:
        return {}
    steps = asked.steps * (asked.classes * (2 if asked.decoded else 1) + 0.3 * asked.channels)
    judged = asked.classes * (2 if asked.decoded else 1) if asked.judged else 0
    return {
        "network product": asked.network.products * 2 * size.sounds,
        "climbed product": asked.network.products * steps,
        "decoded step": asked.steps * asked.classes if asked.decoded else 0,
        "second": 4.0 + 0.2 * judged,
    }


def count_page(size: Size) -> Counts:
    """Count what the page takes, to which figures are added where layers are explained."""
    figures = 4.0 + 0.15 * len(size.regions) + 2.0 * len(size.networks)
    return {"second": figures * (1.5 if size.explained else 1)}


def count_bytes(size: Size, cores: int) -> float:
    """Return the largest amount of memory [bytes]."""
    patterns = 8.0 * size.patterns * (size.light.voxels if size.light else 0.3 * size.grid)
    pairs = _count_pairs(size.items)
    run = 4.0 * size.grid * size.patterns / max(1, size.runs)  # an image is read whole
    largest = [_PAGE_BYTES + (_JUDGE_BYTES if size.explained else 0), patterns + run]
    if size.light is not None:
        several = size.light.ceilings and size.participants > 1
        in_spheres = cores * (pairs * 60 + 2**26 * several) + 24.0 * pairs * size.models
        kept = min(patterns, 2**25)  # of rows
        # noise ceilings hold all participants in single precision, and one as it is read
        people = size.participants * (patterns / 2 + kept) + _count_kept_ranks(size) if several else 0.0
        largest.append(patterns + max(kept, people) + in_spheres)
        tested = sum(one.layers for one in size.networks) + size.light.differences
        largest.append(24.0 * tested * size.participants * size.light.voxels)
    if size.encoded:
        largest.append(patterns + 8.0 * size.items**2 * (_FOLDS + 4))
    largest.append(8.0 * size.items**2 * 6 + patterns)
    return _BYTES + max(largest)
