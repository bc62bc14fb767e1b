"""Read what a finished study found in the brain: maps, the scores at a place or in a region, and RDMs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.explore.maps import Maps, summarize_scores
from brainmap.rsa.rdm.files import load_plain_rdms, read_rdm_descriptors
from brainmap.study.results.context import Context
from brainmap.study.settings.participant import Participant
from brainmap.study.stages.networks import Version, build_rdm_path, yield_versions


@dataclass(frozen=True, eq=False)
class Brains:
    """Hold the results of a study in the brain; what is large is read when it is first asked for.

    Parameters
    ----------
    context : Context
    """

    context: Context
    _maps: dict[str, Maps] = field(default_factory=dict)

    @cached_property
    def people(self) -> list[Participant]:
        """List the participants."""
        return list(self.context.study.participants())

    @cached_property
    def models(self) -> list[tuple[Version, str]]:
        """List the layers of every network, control and baseline whose RDMs exist."""
        return [
            (version, str(layer))
            for version in yield_versions(self.context)
            if build_rdm_path(self.context, version).exists()
            for layer in read_rdm_descriptors(build_rdm_path(self.context, version))["layer"]
        ]

    def choose(self, person: str) -> list[Participant]:
        """Return one participant by label, or all where the label is empty.

        Raises
        ------
        InputError
            There is none of that label.
        """
        if not person:
            return self.people
        check_choice(person, [one.label for one in self.people], "participant")
        return [one for one in self.people if one.label == person]

    def maps(self, person: str = "") -> Maps:
        """Return the maps of a participant, or of the group where the label is empty."""
        if person not in self._maps:
            whose = self.choose(person)
            self._maps[person] = Maps(self.context, whose, whose[0] if person else None, self.models)
        return self._maps[person]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Read the scores of all participants in all regions."""
        found = self.context.read_person_tables("scores.tsv", desc="rois")
        if not found:
            raise InputError("regions: the study holds no scores yet; run it: brainmap run")
        return pd.concat(found, ignore_index=True)

    def find_model(self, network: str, layer: str) -> tuple[Version, str]:
        """Find a layer of a network, control or baseline.

        Raises
        ------
        InputError
            There is none of that name.
        """
        check_choice(network, list(dict.fromkeys(version.name for version, _ in self.models)), "network")
        layers = {one: (version, one) for version, one in self.models if version.name == network}
        return layers[check_choice(layer, list(layers), "layer")]

    def describe(self, person: str = "") -> dict[str, Any]:
        """Describe what can be seen of a participant, or of the group."""
        settings = self.context.study.settings
        return {
            **self.maps(person).describe(),
            "people": [one.label for one in self.people],
            "regions": list(dict.fromkeys(map(str, self.scores["roi"]))),
            "rdm_layers": [{"network": version.name, "layer": layer} for version, layer in self.models],
            "level": settings.rsa.items,
            "encodes": settings.encoding is not None,
        }

    def read_region(self, name: str, person: str = "") -> dict[str, Any]:
        """Return the scores of all layers in a region, with its noise ceilings."""
        scores, whose = self.scores, [one.label for one in self.choose(person)]
        check_choice(name, list(dict.fromkeys(map(str, scores["roi"]))), "region")
        mine = scores[(scores["roi"].astype(str) == name) & scores["participant"].astype(str).isin(whose)]
        tested = None if person else self.context.read_group_table("statistics")
        rows = []
        for version, layer in self.models:
            values = mine[(mine["network"] == version.name) & (mine["layer"].astype(str) == layer)]["score"]
            if len(values):
                p = look_up(tested, "p_corrected", roi=name, network=version.name, layer=layer)
                rows.append(summarize_scores(version, layer, values.to_numpy(dtype=float), p))
        ceilings = None if person else self.context.read_group_table("ceilings")
        bounds = [look_up(ceilings, bound, roi=name) for bound in ("lower", "upper")]
        return {
            "what": "region",
            "region": name,
            "measure": self.context.study.settings.rsa.score,
            "participants": int(mine["participant"].nunique()),
            "rows": rows,
            "ceiling": None if None in bounds else bounds,
            "notes": ["No noise ceilings here: they are of the group."] if person else [],
        }

    def read_rdms(self, region: str, network: str, layer: str, person: str = "") -> dict[str, Any]:
        """Return the RDM of a layer beside that of a region, the mean over participants, over the same items."""
        from brainmap.rsa.rdm.alignment import list_labels
        from brainmap.study.stages.group import join_brain_rdms

        version, layer = self.find_model(network, layer)
        model = load_plain_rdms(build_rdm_path(self.context, version)).subset("layer", layer)
        people = [p for p in self.choose(person) if self.context.build_subject_path(p, "rdms.h5", desc="rois").exists()]
        brains = join_brain_rdms(self.context, people, plain=True)
        check_choice(region, list(dict.fromkeys(map(str, brains.rdm_descriptors["roi"]))), "region")
        brain = brains.subset("roi", region)
        labels = list_labels(model)
        theirs = list_labels(brain)
        missing = [label for label in labels if label not in theirs]
        order = [theirs.index(label) for label in labels if label in theirs]
        kept = [k for k, label in enumerate(labels) if label in theirs]
        both = model.get_matrices()[0][np.ix_(kept, kept)], brain.get_matrices()[:, order][:, :, order].mean(axis=0)
        return {
            "labels": [labels[k] for k in kept],
            "layer": both[0].astype(np.float32),
            "region": both[1].astype(np.float32),
            "dissimilarity": [str(model.dissimilarity_measure), str(brain.dissimilarity_measure)],
            "participants": brain.n_rdm,
            "notes": [f"{len(missing)} items are not in the RDM of the region"] if missing else [],
        }


def look_up(table: pd.DataFrame | None, column: str, **where: str) -> float | None:
    """Return the value in the one row of a table where columns hold some names; None where there is no such row."""
    if table is None or column not in table:
        return None
    for key, value in where.items():
        if key in table:
            table = table[table[key].astype(str) == value]
    return float(table[column].iloc[0]) if len(table) == 1 and pd.notna(table[column].iloc[0]) else None
