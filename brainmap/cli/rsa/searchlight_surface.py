"""Run `rsa searchlight` on data on the cortical surface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from brainmap import rsa, viz
from brainmap.cli.images import refuse_existing_maps
from brainmap.cli.options import print_files, save_figure
from brainmap.errors import InputError

if TYPE_CHECKING:
    from brainmap.rsa.searchlights.settings import SearchlightSettings


def refuse_surface_options(**given: object) -> None:
    """Refuse options of surface data for volumes."""
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"--{name}: expected data on the surface (.func.gii with {{hemi}}), got volumes; leave the option out"
            )


def search_surface(
    betas: list[str],
    models: Path,
    settings: SearchlightSettings,
    *,
    out: str,
    best: str | None,
    counts: str | None,
    figure: Path | None,
    overwrite: bool,
    noise: dict[str, Any],
    reading: dict[str, Any],
    mesh: str,
    discs: dict[str, Any],
    threads: int | None,
) -> None:
    """Compare the disc around every vertex with every model, and write maps and a picture.

    Parameters
    ----------
    betas, models
        GIFTI names with `{hemi}`, one per run; RDMs.
    out, best, counts, figure
        Files to write; the last three are optional.
    noise, reading, discs : dict
        Arguments of `SearchlightSettings.choose_noise`, `load_surface_patterns` and `search_discs`.
    """
    from brainmap.cli.rsa.options import count_noun, load_given_patterns
    from brainmap.rsa.searchlights.surface import search_discs

    refuse_existing_maps({"--out": out, "--best": best, "--counts": counts}, overwrite, on_surface=True)
    cortex, model_rdms = rsa.load_mesh(mesh), rsa.load_rdms(models)
    data = load_given_patterns(betas, **reading)
    own = settings.choose_noise(data, **noise)
    maps = search_discs(data, model_rdms, settings, mesh=cortex, noise=own, threads=threads, **discs)
    written = _save_surface_maps(maps.data, out, overwrite)
    written += _save_surface_maps(maps.best, best, overwrite) if best is not None else []
    written += _save_surface_maps(maps.vertex_count, counts, overwrite) if counts is not None else []
    if figure is not None:
        save_figure(_draw_maps(maps, settings.measure, discs), figure)
        written.append(figure)
    centers = maps.counts[maps.counts > 0]
    typer.echo(
        f"{count_noun(len(maps), 'model')} at {len(centers) - maps.n_unscored:,} vertices of {cortex.name}, discs of "
        f"{centers.mean():.0f} vertices on average; {maps.n_excluded:,} vertices without data, {maps.n_unscored:,} "
        "discs without a score"
    )
    print_files(*written)


def _save_surface_maps(data: rsa.SurfaceData, name: str, overwrite: bool) -> list[Path]:
    from brainmap.record import command_line

    return rsa.save_surface(data, name, overwrite=overwrite, history=command_line())


def _draw_maps(maps: rsa.SurfaceMaps, measure: str, discs: dict[str, Any]) -> Any:
    from brainmap.rsa.searchlights.surface import RADIUS_MM

    n, radius = discs["n_vertices"], discs["radius_mm"]
    size = f"{n} vertices" if n else f"{radius or RADIUS_MM:g} mm"
    return viz.plot_surface_maps(maps, title=f"Searchlight on {maps.mesh.name}, discs of {size}", label=measure)
