"""What every stage shares: the study, its ledger, where files go, and what is already loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from brainmap.features.sounds import Sounds, load_sounds
from brainmap.record import Ledger, content_key, file_digest, write_json
from brainmap.rsa._selectors import image_files
from brainmap.study import Network, Participant, Study

log = logging.getLogger("brainmap")


@dataclass(frozen=True)
class Context:
    """One call of `brainmap run`."""

    study: Study
    device: str = "cpu"
    threads: int | None = None
    overwrite: bool = False
    _digests: dict[str, str] = field(default_factory=dict)

    @cached_property
    def ledger(self) -> Ledger:
        """What is computed so far."""
        about = self.study.settings.study
        return Ledger(self.study.out, simulated=about.simulated, seed=about.seed)

    def digest(self, name: str) -> str:
        """SHA-256 of the file, or of both files of an AFNI dataset, that a name of the study stands for."""
        if name not in self._digests:
            self._digests[name] = content_key([file_digest(f) for f in image_files(name)])
        return self._digests[name]

    def stage(self, name: str, key: str, compute: Callable[[], Sequence[Path]]) -> None:
        """Compute a stage unless its key says that it was computed from the same content."""
        if not self.overwrite and self.ledger.is_done(name, key):
            log.info("%s: nothing to do", name)
            return
        log.info("%s", name)
        self.ledger.close(name, key, list(compute()))

    def about(self, parameters: Mapping[str, Any], inputs: Sequence[str] = ()) -> dict[str, Any]:
        """The provenance for a sidecar; inputs are named as in the study file."""
        base = self.study.folder
        named = {_relative(Path(i), base): self.digest(i) for i in inputs}
        return self.ledger.provenance(parameters=parameters, inputs=named)

    def sidecar(self, path: Path, content: Mapping[str, Any]) -> Path:
        """Write the JSON beside a result."""
        stem = re.sub(r"(\.nii)?\.[A-Za-z0-9]+$", "", path.name)
        return write_json(path.with_name(stem + ".json"), content)

    def subject_file(self, person: Participant, ending: str, **entities: str) -> Path:
        """`sub-01/func/sub-01_task-<study>_space-<space>_<entities>_<ending>`, as BIDS derivatives are named."""
        name = f"sub-{person.label}_{self._common(person.brain.space)}{_entities(entities)}_{ending}"
        return self.study.out / f"sub-{person.label}" / "func" / name

    def group_file(self, ending: str, *, space: str | None = None, **entities: str) -> Path:
        """`group/task-<study>_..._<ending>`."""
        return self.study.out / "group" / f"{self._common(space)}{_entities(entities)}_{ending}"

    def table_file(self, name: str) -> Path:
        """A table of the group, under its plain name."""
        return self.study.out / "group" / f"{name}.tsv"

    def _common(self, space: str | None) -> str:
        task = f"task-{slug(self.study.settings.study.name)}"
        return task if space is None else f"{task}_space-{slug(space)}"

    def sounds_for(self, network: Network, like: Any) -> Sounds:
        """The study's sounds as a network takes them; `like` has rate, n_samples, level and align."""
        return load_sounds(
            self.study.resolve(self.study.settings.stimuli.table),
            rate=like.rate,
            seconds=like.n_samples / like.rate,
            level=like.level,
            align=like.align,
        )

    @cached_property
    def stimuli(self) -> dict[str, str]:
        """Condition of each stimulus, in the order of the table."""
        sounds = load_sounds(self.study.resolve(self.study.settings.stimuli.table))
        return dict(zip(sounds.items, sounds.conditions, strict=True))


def ready(path: Path) -> Path:
    """The path, whose folder now exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def slug(text: str) -> str:
    """Letters and digits only, as BIDS entities want.

    Examples
    --------
    >>> slug("rho-a")
    'rhoa'
    """
    return re.sub(r"[^A-Za-z0-9]", "", text)


def _entities(entities: Mapping[str, str]) -> str:
    return "".join(f"_{key}-{slug(value)}" for key, value in entities.items())


def _relative(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
