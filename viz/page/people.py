"""Show participants one by one: a small map, small RDMs, and a table of regions; drawn without figures, for speed."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from PIL import Image

from brainmap.viz.labels import format_decimals
from brainmap.viz.page.content import PeopleContent, Person
from brainmap.viz.page.sheet import find_top
from brainmap.viz.page.tables import Table, make_table
from brainmap.viz.rsa.rdms import rank_pairs
from brainmap.viz.rsa.volume import paint_glass, read_volume
from brainmap.viz.style import encode_data_uri, get_colormap

MOST_RDMS = 8  # of one participant, those of the regions where it agrees least with the others
MOST_PEOPLE = 60
_WIDE = 64  # pixels of an RDM; of more items, neighbors are averaged
_SHADES = 64
_NONE = (0.89, 0.906, 0.918)  # no pair of items


@dataclass(frozen=True, kw_only=True)
class SmallRdm:
    """Hold the RDM of a region as a picture, and the agreement with the other participants' in words."""

    roi: str
    source: str
    words: str


@dataclass(frozen=True, kw_only=True)
class PersonView:
    """Hold what is shown of a participant: facts in words, a map, RDMs, and a table of regions."""

    label: str
    outlier: bool
    facts: str
    map: str
    map_words: str
    rdms: list[SmallRdm]
    table: Table


@dataclass(frozen=True, kw_only=True)
class PeopleView:
    """Hold the participants that are shown, whose maps these are, the ends of their color scale, and what is not."""

    persons: list[PersonView]
    shown: str
    ends: tuple[str, str]
    left_out: int
    regions: int
    averaged: int


def show_people(content: PeopleContent | None) -> PeopleView | None:
    """Draw the participants, the least typical first, their maps on one color scale."""
    if content is None or not content.persons:
        return None
    shown = content.persons[:MOST_PEOPLE]
    top = find_top(content.maps[person.label] for person in shown if person.label in content.maps)
    first = next((rdm for person in shown for rdm in person.rdms.values()), np.zeros((1, 1)))
    return PeopleView(
        persons=[_show_person(person, content, top) for person in shown],
        shown=content.shown if content.maps else "",
        ends=(format_decimals(top / 3), format_decimals(top)),
        left_out=len(content.persons) - len(shown),
        regions=max(len(person.rdms) for person in shown),
        averaged=_count_averaged(len(first)),
    )


def _show_person(person: Person, content: PeopleContent, top: float) -> PersonView:
    agreement = dict(zip(person.regions["roi"], person.regions.get("agreement", []), strict=False))
    chosen = sorted(person.rdms, key=lambda roi: np.nan_to_num(agreement.get(roi, 0.0), nan=2.0))[:MOST_RDMS]
    drawn, words = "", ""
    if person.label in content.maps:
        image = content.maps[person.label]
        volume = read_volume(image, "report: map of a participant")
        drawn = _encode(paint_glass(volume, (top / 3, Normalize(top / 3, top))))
        high = format_decimals(float(np.nanmax(np.asarray(image.dataobj))))
        words = f"Glass brain of participant {person.label}, {content.shown}: highest value {high}"
    rdms = []
    for roi in (roi for roi in person.rdms if roi in chosen):
        known = agreement.get(roi)
        said = "" if known is None else f"agreement {format_decimals(float(known))}"
        rdms.append(SmallRdm(roi=roi, source=draw_small_rdm(person.rdms[roi]), words=said))
    return PersonView(
        label=person.label,
        outlier=person.outlier,
        facts=_describe(person),
        map=drawn,
        map_words=words,
        rdms=rdms,
        table=make_table(person.regions.dropna(axis=1, how="all"), f"participant-{person.label}.tsv"),
    )


def _describe(person: Person) -> str:
    """Say how far a participant agrees with others, how far its RDMs repeat, and how many voxels are left out."""
    regions, said = person.regions, []
    if np.isfinite(person.agreement):
        said.append(f"mean agreement {format_decimals(person.agreement)}")
    if "reliability" in regions and regions["reliability"].notna().any():
        said.append(f"mean reliability {format_decimals(float(regions['reliability'].mean()))}")
    if {"voxels", "kept"} <= set(regions):
        whole = regions[regions["roi"] == "mask"] if (regions["roi"] == "mask").any() else regions
        lost = int((whole["voxels"] - whole["kept"]).sum())
        said.append(f"{lost:,} voxels left out" if lost else "no voxel left out")
    return ", ".join(said)


def draw_small_rdm(square: NDArray[np.floating]) -> str:
    """Draw the ranks of an RDM `(n_items, n_items)` as a small picture, dark where items are alike."""
    ranks = rank_pairs(np.asarray(square, dtype=np.float64))
    np.fill_diagonal(ranks, np.nan)  # an item is not compared with itself
    edges = np.arange(0, len(ranks), _count_averaged(len(ranks)))
    known = np.isfinite(ranks)
    total, count = (
        np.add.reduceat(np.add.reduceat(one, edges, axis=0), edges, axis=1)
        for one in (np.where(known, ranks, 0.0), known.astype(float))
    )
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return _encode(np.where(count[..., None] > 0, get_colormap("dissimilarity")(mean)[..., :3], _NONE))


def _count_averaged(n: int) -> int:
    """Return how many neighbors of `n` items share a pixel."""
    return -(-n // _WIDE)


def _encode(picture: NDArray[np.floating]) -> str:
    """Encode a picture `(height, width, 3)` as a PNG of few colors, which is a third of the size."""
    out = io.BytesIO()
    whole = Image.fromarray(np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    few = whole.quantize(_SHADES, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = np.array(few.getpalette(), dtype=np.uint8).reshape(-1, 3)
    few.putpalette(np.where((palette > 249).all(axis=1, keepdims=True), 255, palette).astype(np.uint8).tobytes())
    few.save(out, format="png")
    return encode_data_uri(out.getvalue(), "image/png")
