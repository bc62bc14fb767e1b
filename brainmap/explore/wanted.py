"""Find the sound that a region is predicted to want, by the encoding models of a study, and let others judge it.

The model that is climbed is fitted on one half of the participants (or of the runs of one participant), and the models
that judge on the other half, from networks that are not climbed. All of it is computed when it is asked for; the study
holds the scores alone, whose test is the gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.explore.sources import Heard, Source
from brainmap.explore.waves import describe_wave
from brainmap.features.activations.extract import Activations, extract_activations, open_activations
from brainmap.features.evaluation.judges import load_judges
from brainmap.features.evaluation.regions import CHANCE, Encoder, RegionSounds, maximize_regions
from brainmap.features.maximization.choice import choose_priors
from brainmap.features.maximization.decoder import load_decoder
from brainmap.features.networks.readout import readout_network
from brainmap.features.sounds.files import Sounds
from brainmap.features.sounds.inversion import invert_pictures
from brainmap.progress import progress
from brainmap.record import content_key
from brainmap.rsa.encoding.encode import fit_layers
from brainmap.rsa.encoding.fits import fit_weights_of_layer
from brainmap.rsa.encoding.responses import FeatureSpace, Responses, align_features
from brainmap.study.results.tables import read_results_table
from brainmap.study.stages.encoding import EncodedPerson, yield_encoded
from brainmap.study.stages.networks import store_path

if TYPE_CHECKING:
    from torch import nn

    from brainmap.features.networks.description import Checkpoint

PACKAGE_JUDGES = 2  # networks of brainmap that judge where the study has no other network
_SAME_LENGTH = 0.1  # share by which a judge's input may differ in length


@dataclass(frozen=True)
class Gate:
    """Hold what the study says of the best encoding model of a network in a region.

    Attributes
    ----------
    layer : str
        The layer with the highest r over the group.
    r, p : float
        p by the highest r of all layers and regions in each permutation.
    """

    network: str
    layer: str
    r: float
    p: float

    @property
    def passed(self) -> bool:
        """Tell whether the region is predicted better than by chance."""
        return self.p <= CHANCE


def read_gates(source: Source, region: str) -> list[Gate]:
    """Read from the study's tables the best layer of each trained network in a region.

    Raises
    ------
    InputError
        The study has no encoding models, or they are not fitted yet.
    """
    context = source.context
    if context is None or context.study.settings.encoding is None:
        raise InputError("encoding: the study fits no encoding models; add [encoding] to its file, and run it")
    path = context.build_table_path("encoding")
    if not path.exists():
        raise InputError("encoding: the encoding models of the study are not fitted yet; run it: brainmap run")
    table = read_results_table(path)
    check_choice(region, list(dict.fromkeys(map(str, table["roi"]))), "region of the encoding models")
    mine = table[table["roi"].astype(str) == region]
    found = []
    for network in context.study.settings.network:
        rows = mine[(mine["network"] == network.name) & mine["mean"].notna()]
        if len(rows):
            best = rows.iloc[int(rows["mean"].argmax())]
            p = float(best["p_corrected"]) if pd.notna(best["p_corrected"]) else 1.0
            found.append(Gate(network.name, str(best["layer"]), float(best["mean"]), p))
    return found


def find_wanted(source: Source, region: str, network: str) -> tuple[RegionSounds, Gate]:
    """Find the sound that a region is predicted to want, through the best layer of a network; kept by content.

    Raises
    ------
    InputError
        No encoding model of the network, one that is no better than chance, features that no network can be cut of, or
        no network that could judge.
    """
    gates = {gate.network: gate for gate in read_gates(source, region)}
    gate = gates[check_choice(network, list(gates), "network")]
    if not gate.passed:
        raise InputError(
            f"wanted: the encoding models of {network!r} predict {region!r} no better than chance (best at "
            f"{gate.layer}, r = {gate.r:.3f}, p = {gate.p:.3g} by the maximum over layers and regions), so no sound "
            "can be said to drive it; choose another region or network"
        )
    context = source.context
    assert context is not None  # it has gates
    people = list(yield_encoded(context))
    fitted = [context.ledger.read(one.stage)["key"] for one in people]
    key = content_key("wanted", fitted, region, gate.network, gate.layer, context.study.settings.study.seed)
    return source.memory.remember(key, lambda: _maximize_region(source, people, region, gate, gates)), gate


@dataclass(frozen=True)
class _Share:
    """Hold the responses of a region of one participant, or of some of their runs."""

    person: EncodedPerson
    runs: tuple[int, ...] | None = None

    def responses(self, region: str) -> Responses:
        """Return the mean response of the region, z-scored over items so that participants count alike."""
        whole = self.person.aligned[1]
        kept = np.flatnonzero(whole.targets["roi"].astype(str) == region)
        if not len(kept):
            raise InputError(f"wanted: participant {self.person.label} has no region {region!r}")
        values = whole.values if self.runs is None else whole.values[list(self.runs)]
        if not np.isfinite(values[:, :, kept[0]]).any(axis=0).all():
            raise InputError(
                f"wanted: half of the runs of participant {self.person.label} do not hold all sounds, and a model to "
                "climb and one to judge cannot be fitted on different runs; explore a study of several participants"
            )
        target = pd.DataFrame({"roi": [region], "voxel": pd.array([pd.NA], dtype="Int64")})
        own = replace(whole, values=values[:, :, kept].mean(axis=2, keepdims=True), targets=target)
        if self.runs is not None:
            own = replace(own, runs=tuple(whole.runs[k] for k in self.runs))
        mean = own.mean[:, 0]
        return replace(own, values=(own.values - mean.mean()) / (mean.std() or 1.0))


def _divide(people: Sequence[EncodedPerson]) -> tuple[list[_Share], list[_Share]]:
    """Divide participants, or the runs of a single one, into those to fit what is climbed and those to fit judges."""
    if len(people) > 1:
        return [_Share(one) for one in people[::2]], [_Share(one) for one in people[1::2]]
    n = len(people[0].aligned[1].runs)
    if n < 2:
        raise InputError(
            "wanted: expected two participants or two runs, so that judges are fitted on other data than the model "
            "that is climbed, got one run of one participant"
        )
    return [_Share(people[0], tuple(range(0, n, 2)))], [_Share(people[0], tuple(range(1, n, 2)))]


def _maximize_region(
    source: Source, people: Sequence[EncodedPerson], region: str, gate: Gate, gates: dict[str, Gate]
) -> RegionSounds:
    first, second = _divide(people)
    heard = source.network(gate.network)
    encoder = replace(_fit_study_model(source, heard, gate, region, first), scores={region: gate.r}, p={region: gate.p})
    judges = [
        _fit_study_model(source, source.network(other.network), other, region, second)
        for other in gates.values()
        if other.network != gate.network and source.network(other.network).digest != heard.digest
    ]
    judges = judges or list(_fit_package_models(source, heard, region, second))
    fed = heard.checkpoint
    about = load_decoder().about
    fits = fed.front_end.is_waveform and (about.rate, about.n_samples) == (fed.rate, heard.sounds.n_samples)
    (chosen,) = choose_priors(
        "decoder" if fits else "audio",
        rate=fed.rate,
        n_samples=heard.sounds.n_samples,
        on_waveforms=fed.front_end.is_waveform,
    )
    assert source.context is not None
    return maximize_regions(
        [encoder],
        heard.sounds,
        regions=[region],
        judges=judges,
        decoder=chosen.decoder,
        settings=chosen.settings(),
        rng=np.random.default_rng(source.context.study.settings.study.seed),
        device=source.device,
    )


def _fit_study_model(source: Source, heard: Heard, gate: Gate, region: str, shares: Sequence[_Share]) -> Encoder:
    """Fit a layer of a network of the study."""
    assert source.context is not None
    assert heard.version is not None
    acts = open_activations(store_path(source.context, heard.version))
    if gate.layer in acts.reductions or acts.pooling == "none":
        what = "reduced units" if gate.layer in acts.reductions else "frames"
        raise InputError(
            f"wanted: expected units of {gate.layer!r} pooled over time, got {what}, which no network gives; run the "
            "study without reduce, with a pooling"
        )
    spaces = [
        next(s for s in share.person.aligned[0] if (s.network, s.layer) == (heard.name, gate.layer)) for share in shares
    ]
    return _build_encoder(heard.name, heard.model, heard.checkpoint, heard.sounds, acts, spaces, region, shares)


def _fit_package_models(source: Source, heard: Heard, region: str, shares: Sequence[_Share]) -> Iterator[Encoder]:
    """Fit networks of brainmap where the study has no other network, each by the layer that predicts best."""
    context, fed = source.context, heard.checkpoint
    assert context is not None
    seconds = heard.sounds.n_samples / fed.rate
    found = [
        judge
        for judge in load_judges(climbed=heard.model)[0]
        if abs(judge.checkpoint.n_samples / judge.checkpoint.rate / seconds - 1) <= _SAME_LENGTH
    ][-PACKAGE_JUDGES:]
    if not found:
        raise InputError(
            "wanted: no network is left to judge: the study has one network, and those of brainmap take sounds of "
            f"another length than {seconds:g} s; add another [[network]] to the study"
        )
    for judge in found:
        sounds = context.load_sounds_for(judge.checkpoint)
        acts = extract_activations(judge.model, sounds, pooling="mean", batch_size=8, device=source.device)
        spaces, scores = [], []
        items = context.study.settings.rsa.items
        for share in shares:
            responses, person = share.responses(region), share.person
            tokens = [str(name) for name in person.one.data.obs_descriptors.get("stimulus_id", ())]
            own = align_features({judge.name: acts}, responses, items=items, layers="all", heard=tokens)
            table, _, _ = fit_layers(own, responses, person.folds, person.settings)
            spaces.append(own)
            scores.append(table["r"].to_numpy())
        best = int(np.nan_to_num(np.mean(scores, axis=0), nan=-np.inf).argmax())
        chosen = [own[best] for own in spaces]
        yield _build_encoder(judge.name, judge.model, judge.checkpoint, sounds, acts, chosen, region, shares)


def _build_encoder(
    name: str,
    model: nn.Module,
    checkpoint: Checkpoint,
    sounds: Sounds,
    acts: Activations,
    spaces: Sequence[FeatureSpace],
    region: str,
    shares: Sequence[_Share],
) -> Encoder:
    """Fit a layer to the region of each participant, and cut the network behind it with the mean of the weights."""
    parts: list[tuple[NDArray[np.float64], float]] = []
    with progress(f"fitting {spaces[0].name}", len(shares)) as step:
        for space, share in zip(spaces, shares, strict=True):
            person = share.person
            fit = fit_weights_of_layer(space, share.responses(region), person.folds.group, person.settings)
            weights = np.where(fit.sd > 0, fit.weights[:, 0] / np.where(fit.sd > 0, fit.sd, 1), 0)
            parts.append((weights, float(fit.intercept[0] - fit.mean @ weights)))
            center = fit.mean
            step.advance()
    weights = np.mean([one for one, _ in parts], axis=0)
    offset = float(np.mean([one for _, one in parts]) + center @ weights)
    layer, array = spaces[0].layer, acts[spaces[0].layer]
    cut = readout_network(
        model,
        sounds,
        layer=layer,
        weights=weights[:, None],
        mean=center,
        sd=np.ones_like(center),
        intercept=np.array([offset]),
        names=[region],
        pooling=acts.pooling,  # type: ignore[arg-type]
        stage=acts.stage,  # type: ignore[arg-type]
        pool_frequency=bool(getattr(array, "attrs", {}).get("pool_frequency")),
    )
    return Encoder(
        name=f"{name} {layer}",
        model=cut,
        scores={},
        data=frozenset(f"{share.person.label} {share.runs or ''}" for share in shares),
        checkpoint=checkpoint,
    )


def describe_wanted(source: Source, region: str, network: str) -> dict[str, Any]:
    """Describe the sound that a region is predicted to want, and what the models predict for it."""
    found, gate = find_wanted(source, region, network)
    wave, rate = _get_wave(found)
    row = {str(name): value for name, value in found.table.iloc[0].items()}
    best = row.pop("best_real_sound")
    return {
        **row,
        "region": region,
        "network": gate.network,
        "layer": gate.layer,
        "r": gate.r,
        "p": gate.p,
        "prior": found.am.prior,
        "real": {"id": best, "condition": source.conditions[list(source.items).index(best)]},
        "sound": describe_wave(wave, rate),
        "notes": list(found.notes),
    }


def read_wanted(source: Source, region: str, network: str) -> tuple[NDArray[np.float32], int]:
    """Return the sound that a region is predicted to want, and its rate [Hz]."""
    return _get_wave(find_wanted(source, region, network)[0])


def _get_wave(found: RegionSounds) -> tuple[NDArray[np.float32], int]:
    am = found.am
    if not am.can_be_heard:
        raise InputError("wanted: what the region is predicted to want is no sound; the network takes pictures")
    waves = am.patterns if am.axes is None or am.patterns.ndim == 3 else invert_pictures(am.patterns, am.axes)
    return waves[0, 0], am.rate
