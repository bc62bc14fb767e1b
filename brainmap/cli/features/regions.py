"""Do what `features maximize --target roi:NAME` does: sounds that regions are predicted to want."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from brainmap import features, types, viz
from brainmap.cli.features.options import Listener, note_origin
from brainmap.cli.options import (
    build_provenance,
    draw_figure,
    make_rng,
    print_files,
    print_table,
    split_names,
    write_tables,
)
from brainmap.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def maximize_named_regions(
    one: Listener,
    regions: tuple[str, ...],
    given: dict[str, Any],
    *,
    also: str | None,
    judges: str | None,
    prior: types.PatternPrior | None,
    decoder: str | None,
    seed: int,
    jobs: int | None,
) -> features.RegionSounds:
    """Find the sounds that regions of an encoding model are predicted to want; `given` are settings of the ascent.

    Raises
    ------
    InputError
        No judges, files that hold no encoding models, or what `maximize_regions` refuses.
    """
    from brainmap.features.maximization.decoder import choose_priors

    paths = [one.path, *(Path(name) for name in split_names(also))] if also else [one.path]
    climbed = [features.load_encoder(path) for path in paths]
    if judges is None or judges in ("none", "package"):
        raise InputError(
            "--judges: expected encoding models of other networks, fitted on other runs, that judge what is climbed; "
            "write them with brainmap rsa encode --encoder"
        )
    fed = one.checkpoint
    if prior is None and decoder is None:
        about = features.load_decoder().about
        fits = fed.front_end.is_waveform and (about.rate, about.n_samples) == (fed.rate, one.sounds.n_samples)
        prior = "decoder" if fits else "audio"
    (chosen,) = choose_priors(
        prior,
        decoder=decoder,
        rate=fed.rate,
        n_samples=one.sounds.n_samples,
        on_waveforms=fed.front_end.is_waveform,
    )
    return features.maximize_regions(
        climbed,
        one.sounds,
        regions=regions,
        judges=[features.load_encoder(name) for name in split_names(judges)],
        decoder=chosen.decoder,
        settings=chosen.settings(**given),
        rng=make_rng(seed),
        device=one.device,
        threads=jobs,
    )


def join_networks(one: Listener, paths: list[str]) -> tuple[Listener, list[nn.Module]]:
    """Join the network with others, so that the mean of their outputs is climbed; return all of its members too.

    Raises
    ------
    InputError
        A network that takes other input, or whose classes are others.
    """
    from brainmap.cli.features.options import open_checkpoint

    members, names, own = [one.model], [one.classes or ()], one.checkpoint
    for path in paths:
        model, fed = open_checkpoint(
            Path(path), architecture=None, variant=None, rate=None, seconds=None, level=None, align=None, input=None
        )
        mine, other = (
            (about.front_end.describe(), about.rate, about.n_samples, about.level, about.align) for about in (own, fed)
        )
        if mine != other:
            raise InputError(
                f"--also: expected networks that take the same input, {mine}, got {other} of {path}; leave it out, or "
                "name it as a judge"
            )
        members.append(model)
        names.append(fed.classes)
    joined = features.Ensemble(members, names if all(names) else None)
    return replace(one, model=joined, name="+".join([one.name, *(Path(path).stem for path in paths)])), members


def write_regions(
    found: features.RegionSounds,
    one: Listener,
    out: Path,
    table: Path | None,
    figure: Path | None,
    *,
    seed: int,
    as_json: bool,
) -> None:
    """Store the sounds, write their table and figure, and print what was found."""
    from dataclasses import asdict

    from brainmap.features.evaluation.regions import REGION_COLUMNS
    from brainmap.features.representations.files import save_maximization

    wavs = found.am.save_wav(table.parent, name="predicted") if table is not None else []
    save_maximization(found.am, out, network=one.name, wavs=[file.name for file in wavs])
    note_origin(out, "am", one, found.am.layer)
    if table is not None:
        about = build_provenance(asdict(found.am.settings), one.inputs, seed=seed)
        write_tables((table, found.table, REGION_COLUMNS, about))
    title = f"{one.name}: sounds predicted to drive"
    draw_figure(lambda: viz.plot_predicted_sounds(found, one.sounds, title=title), figure)
    print_table(found.table, as_json)
    if as_json:
        return
    for note in found.notes:
        typer.echo(f"note: {note}")
    said = f"; as WAV in {table.parent}" if table is not None else ""
    typer.echo(f"{out}: predicted sounds of {len(found.table)} regions{said}")
    print_files(table, figure)
