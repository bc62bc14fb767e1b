"""Tabulate the numbers of figures that show no table of the results, to be saved beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainmap.viz.features.attention import average_attention
from brainmap.viz.page.listening import RegionPanel
from brainmap.viz.page.sheet import SheetRow


def list_regions(rois: Any) -> pd.DataFrame:
    """List regions with their centers [mm] and numbers of voxels; `rois` has `names`, `labels` and `affine`."""
    rows = []
    for k, name in enumerate(rois.names, start=1):
        voxels = np.argwhere(np.asarray(rois.labels) == k)
        x, y, z = rois.affine[:3, :3] @ voxels.mean(axis=0) + rois.affine[:3, 3] if len(voxels) else [np.nan] * 3
        rows.append({"region": name, "x": round(x, 2), "y": round(y, 2), "z": round(z, 2), "voxels": len(voxels)})
    return pd.DataFrame(rows)


def list_sheet(rows: Sequence[SheetRow]) -> pd.DataFrame:
    """List the layers of a sheet, what each maximizes, and the highest place of its map [mm]."""
    found = []
    for row in rows:
        values = np.nan_to_num(np.asarray(row.image.dataobj, dtype=np.float32), nan=-np.inf)
        voxel = np.unravel_index(int(values.argmax()), values.shape)[:3]
        x, y, z = (row.image.affine[:3, :3] @ voxel + row.image.affine[:3, 3]).round(2)
        about = {"layer": row.layer, "unit": row.unit, "word": row.word, "where": row.where}
        found.append({**about, "highest": float(values.max()), "x": x, "y": y, "z": z})
    return pd.DataFrame(found)


def list_attention(sounds: Any, cams: Any, *, bins: int = 24) -> pd.DataFrame:
    """List the mean map of each class on the sounds of each word, by time bins of equal length."""
    mean, names = average_attention(sounds, cams, bins=bins), [str(name) for name in cams.class_names]
    n, _, steps = mean.shape
    word, of_class, at = (part.ravel() for part in np.indices((n, n, steps)))
    columns = {"word": np.array(names)[word], "class": np.array(names)[of_class], "bin": at + 1, "map": mean.ravel()}
    return pd.DataFrame(columns).dropna().astype({"map": np.float32})


def list_courses(panels: Sequence[RegionPanel]) -> pd.DataFrame:
    """List where in the first real sound of each region its encoding model reads, beside the level of the sound."""
    rows = []
    for one in panels:
        first = one.real[0]
        if first.seconds is None or first.course is None:
            continue
        energy = np.full(len(first.seconds), np.nan) if first.energy is None else first.energy
        values = {"second": first.seconds, "map": first.course, "energy_db": energy}
        rows.append(pd.DataFrame({"region": one.roi, "sound": first.name, **values}))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
