"""Parse AFNI names as users type them: the file, the sub-bricks, and the range of values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainmap.checks import check_file, list_some, suggest_word
from brainmap.errors import InputError

VIEWS = ("orig", "acpc", "tlrc")
_PARTS = re.compile(r"(?P<name>.*?)'?(?:\[(?P<bricks>[^\[\]]*)\])?'?(?:<(?P<values>[^<>\[\]]*)>)?'?", re.DOTALL)
_AFNI = re.compile(r"(?P<base>.*?)(?P<suffix>\.|\.HEAD|\.BRIK(?:\.\w+)?)?", re.DOTALL)
SIDES = {"L": "left", "R": "right", "lh": "left", "rh": "right", "left": "left", "right": "right"}
CIFTI_ENDINGS = (".dscalar.nii", ".dtseries.nii", ".dlabel.nii")  # both hemispheres in one file
SURFACE_ENDINGS = (".gii", ".niml.dset", *CIFTI_ENDINGS)
ARRAY_ENDINGS = (".npy", ".npz", ".mat", ".h5", ".hdf5", ".nc")  # response tables
REGION_TABLE_ENDING = ".tsv"  # time courses of regions, a column each
_BRIKS = (".BRIK", ".BRIK.gz", ".BRIK.bz2", ".BRIK.Z", ".BRIK.zst")


@dataclass(frozen=True)
class Selected:
    """Hold the parts of a name: the file name, the text between `[ ]`, and the text between `< >`."""

    name: str
    bricks: str | None = None
    values: str | None = None


def split_name(name: str | Path) -> Selected:
    """Split the selectors off a name; if a file has exactly this name, the whole name is kept.

    Examples
    --------
    >>> split_name("stats+tlrc[A>B#0_Tstat]<2..9>")
    Selected(name='stats+tlrc', bricks='A>B#0_Tstat', values='2..9')
    """
    text = str(name)
    if Path(text).is_file():
        return Selected(text)
    parts = _PARTS.fullmatch(text)
    assert parts is not None  # the pattern matches any text
    return Selected(parts["name"], parts["bricks"], parts["values"])


def find_afni_base(name: str) -> str | None:
    """Return an AFNI name without `.HEAD`, `.BRIK`, `.BRIK.gz` or a final dot; None if the name is not an AFNI name.

    Examples
    --------
    >>> find_afni_base("sub-01/stats+tlrc."), find_afni_base("x.BRIK.gz"), find_afni_base("x.nii.gz")
    ('sub-01/stats+tlrc', 'x', None)
    """
    parts = _AFNI.fullmatch(name)
    assert parts is not None
    has_view = parts["base"].endswith(tuple(f"+{view}" for view in VIEWS))
    return parts["base"] if has_view or parts["suffix"] not in (None, ".") else None


def find_pair(base: str) -> tuple[Path, Path]:
    """Find the HEAD and the BRIK file of an AFNI dataset.

    Raises
    ------
    InputError
        If one of them is missing, or if two BRIK files share the name.
    """
    head = Path(base + ".HEAD")
    briks = [brik for suffix in _BRIKS if (brik := Path(base + suffix)).is_file()]
    if not head.is_file():
        raise InputError(f"image: there is no file {head}{_suggest_neighbor(head)}")
    if not briks:
        raise InputError(f"image: {head} has no {head.stem}.BRIK beside it (nor .BRIK.gz); copy both files")
    if len(briks) > 1:
        found = " and ".join(brik.name for brik in briks)
        raise InputError(
            f"image: one name stands for two files, {found} in {head.parent}; remove the one that you do not mean"
        )
    if briks[0].suffix in (".Z", ".zst"):
        raise InputError(f"image: the compression of {briks[0]} cannot be read here; compress it with gzip instead")
    return head, briks[0]


def find_hemisphere_files(name: str) -> dict[str, Path]:
    """Find the existing GIFTI files of a name; `{hemi}` stands for L and R, lh and rh, or left and right.

    Raises
    ------
    InputError
        If no such file exists.
    """
    tried = {letter: Path(name.replace("{hemi}", letter)) for letter in SIDES}
    found = {SIDES[letter]: file for letter, file in tried.items() if file.is_file()}
    if not found:
        raise InputError(f"surface: there is no file {name} with L and R, lh and rh, or left and right for {{hemi}}")
    return dict(sorted(found.items()))


def list_image_files(name: str | Path) -> tuple[Path, ...]:
    """Return the files on disk that an image's name stands for: one, two for an AFNI dataset, or one per hemisphere."""
    if "{hemi}" in str(name):
        return tuple(find_hemisphere_files(str(name)).values())
    text = split_name(name).name
    base = find_afni_base(text)
    return find_pair(base) if base is not None else (check_file(text, "image"),)


def _suggest_neighbor(file: Path) -> str:
    if not file.parent.is_dir():
        return f"; the folder {file.parent} does not exist"
    return suggest_word(file.name, [p.name for p in file.parent.iterdir()])


def pick_sub_bricks(selector: str, labels: Sequence[str], what: str) -> list[int]:
    """Return the sub-bricks that the text between `[ ]` selects, in the given order.

    The text holds numbers from 0, `$` for the last sub-brick, `a..b` (or `a-b`) with an optional step `(2)`, labels,
    or a list of these.

    Examples
    --------
    >>> pick_sub_bricks("1..$", ["F", "yes", "no"], "x"), pick_sub_bricks("no,0", ["F", "yes", "no"], "x")
    ([1, 2], [2, 0])
    """
    whole = _find_sub_brick(selector.strip(), labels, what)
    if whole is not None:
        return [whole]
    return [index for item in selector.split(",") for index in _parse_item(item.strip(), labels, what)]


def _parse_item(item: str, labels: Sequence[str], what: str) -> list[int]:
    single = _find_sub_brick(item, labels, what)
    if single is not None:
        return [single]
    match = re.fullmatch(r"(.+?)\.\.(.+?)(?:\((\d{1,9})\))?", item) or re.fullmatch(
        r"(\d+|\$)-(\d+|\$)(?:\((\d{1,9})\))?", item
    )
    if match:
        ends = [_find_sub_brick(end.strip(), labels, what) for end in match.groups()[:2]]
        step = int(match[3] or 1)
        if ends[0] is not None and ends[1] is not None and step > 0:
            way = 1 if ends[0] <= ends[1] else -1
            return list(range(ends[0], ends[1] + way, way * step))
    raise InputError(
        f"{what}: no sub-brick is called {item!r}; the labels are "
        f"{list_some(labels, most=12)}{suggest_word(item, labels)}"
    )


def _find_sub_brick(item: str, labels: Sequence[str], what: str) -> int | None:
    if item == "$":
        return len(labels) - 1
    if re.fullmatch(r"[0-9]{1,9}", item):
        if int(item) >= len(labels):
            raise InputError(
                f"{what}: expected a sub-brick from 0 to {len(labels) - 1} ({list_some(labels, most=12)}), got {item}"
            )
        return int(item)
    found = [index for index, label in enumerate(labels) if label == item]
    if len(found) > 1:
        raise InputError(
            f"{what}: {len(found)} sub-bricks are labelled {item!r} ({list_some(found)}); select by number"
        )
    return found[0] if found else None


def parse_value_range(text: str, label_table: Mapping[int, str], what: str) -> tuple[float, float]:
    """Return the range of values that `<lo..hi>`, `<value>` or `<label>` keeps; AFNI sets all other values to 0.

    Examples
    --------
    >>> parse_value_range("2..9", {}, "x"), parse_value_range("left A1", {1: "left A1"}, "x")
    ((2.0, 9.0), (1.0, 1.0))
    """
    named = [value for value, label in label_table.items() if label == text]
    if named:
        return float(named[0]), float(named[0])
    ends = text.split("..")
    try:
        low, high = float(ends[0]), float(ends[-1])
    except ValueError:
        low, high = 1.0, 0.0
    if len(ends) > 2 or not low <= high:
        known = f" or a label: {list_some(label_table.values(), most=12)}" if label_table else ""
        raise InputError(f"{what}: expected a value range <lo..hi> with lo <= hi, got <{text}>{known}")
    return low, high
