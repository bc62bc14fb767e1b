"""Hold what every stage shares: the study, its ledger, loaded data, and the names and tables of results."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from nibabel import Nifti1Image

from brainmap.errors import InputError
from brainmap.features.sounds.files import Sounds, load_sounds
from brainmap.places import refuse_links_out, remove, room_for
from brainmap.progress import heartbeat, log
from brainmap.record import Ledger, command_line, content_key, file_digest, write_json, write_table
from brainmap.rsa.images.files import get_grid_tolerance, grid_tolerance, save_image
from brainmap.rsa.images.names import list_image_files
from brainmap.rsa.surface.data import SurfaceData, save_surface
from brainmap.study.results.bids_names import ResultNames, build_sidecar_path
from brainmap.study.results.claims import hold_file
from brainmap.study.results.notices import collect_notices, keep_notices
from brainmap.study.settings.participant import Participant
from brainmap.tables import read_results_table
from brainmap.threads import limit_blas
from brainmap.types import Backend

P = ParamSpec("P")
R = TypeVar("R")
_REMOVING = 0.5  # seconds in which a folder of results is gone that somebody removes


@dataclass(frozen=True)
class Context(ResultNames):
    """Represent one call of `brainmap run`.

    Attributes
    ----------
    device_wanted : str
        Device on which networks run, of torch, or "auto"; `device` finds that when it is first needed.
    threads : int, optional
        Threads of this process, or worker processes with Dask without a scheduler; default: the cores it may use.
    backend : {"threads", "dask"}
        Backend that computes the searchlight.
    scheduler : str, optional
        Address of the Dask scheduler; without one, workers are started on this machine.
    shared : bool
        Other processes work on the same study: each stage is computed by one of them, and the others wait for it.
    """

    device_wanted: str = "cpu"
    threads: int | None = None
    overwrite: bool = False
    backend: Backend = "threads"
    scheduler: str | None = None
    shared: bool = False
    idle: list[str] = field(default_factory=list)  # stages that had nothing to do
    computed: list[str] = field(default_factory=list)  # stages that this run computed
    networks: dict[str, Any] = field(default_factory=dict)  # networks that `stages.networks.load` has loaded
    calls: dict[str, tuple[list[str], str]] = field(default_factory=dict)  # classes that each network predicts
    patterns: dict[Any, tuple[Any, tuple[str, ...]]] = field(default_factory=dict)  # of classes, found early; warnings
    held: dict[str, Any] = field(default_factory=dict)  # participants' patterns, until noise ceilings are mapped
    ranks: dict[str, Any] = field(default_factory=dict)  # of the RDMs of participants' spheres, until then
    _digests: dict[str, str] = field(default_factory=dict)

    @cached_property
    def device(self) -> str:
        """Return the device on which networks run."""
        from brainmap.features.layers.devices import choose_device

        return choose_device("auto") if self.device_wanted == "auto" else self.device_wanted

    def to_send(self) -> Context:
        """Return a copy without loaded networks and patterns, for another process; it uses the device of this one."""
        return replace(self, networks={}, idle=[], held={}, ranks={}, device_wanted=self.device)

    @cached_property
    def ledger(self) -> Ledger:
        """Return the ledger of what is computed so far."""
        about = self.study.settings.study
        return Ledger(self.study.out, simulated=about.simulated, seed=about.seed)

    def digest(self, name: str) -> str:
        """Compute the SHA-256 of a file of the study, or of both files of an AFNI dataset."""
        if name not in self._digests:
            self._digests[name] = hash_image(name)
        return self._digests[name]

    def is_done(self, name: str, key: str) -> bool:
        """Tell whether a stage was computed from the content of its key, and need not be computed again."""
        return not self.overwrite and self.ledger.is_done(name, self._add_origin(key))

    def run_stage(
        self, name: str, key: str, compute: Callable[[], Iterable[Path]], *, runs_networks: bool = True
    ) -> None:
        """Compute a stage, unless it was computed before with the same key.

        A stage that `runs_networks` has torch restricted to one thread, for which torch is imported.
        Files that the stage wrote before and no longer writes are removed, so that the results always match the study.
        """
        start, said = time.monotonic(), name.replace("_", ": ", 1)
        if self.is_done(name, key):
            self.idle.append(name)
            return
        with hold_file(self.ledger.place(name, ".claim"), said) if self.shared else nullcontext():
            if self.shared and self.is_done(name, key):
                self.idle.append(name)
                return
            try:
                before = self.ledger.files(name)
                for path in before if self.overwrite else self.ledger.damaged(name):
                    if path.is_dir():  # an array marked as complete would be used as it is
                        remove(path)
                self.ledger.open(name)
                with (
                    collect_notices() as notices,
                    heartbeat(said),
                    restrict_threads() if runs_networks else limit_blas(),
                    room_for(said, self.ledger.folder),
                ):
                    written = list(compute())
                keep_notices(self.ledger, name, notices)
                for path in set(before) - set(written):
                    remove(path)
                self.ledger.close(name, self._add_origin(key), written)
                self.computed.append(name)
            except FileNotFoundError:
                time.sleep(_REMOVING)  # somebody removes the folder, and may not have come to its mark
                raise
            except (IndexError, KeyError, ValueError) as error:
                if isinstance(error, InputError) or not self._lost_results():
                    raise
                time.sleep(_REMOVING)
                raise InputError(
                    f"{said}: results in {self.ledger.folder} were removed while the study ran; run it again"
                ) from error
            finally:  # the ledger marks the folder as brainmap's, even where somebody removed it meanwhile
                (self.ledger.folder / ".brainmap").mkdir(parents=True, exist_ok=True)
        log.info("%s: done in %.1f s", said, time.monotonic() - start)

    def _lost_results(self) -> bool:
        """Tell whether results of stages that this run computed or found are gone."""
        there = set(self.ledger.stages())
        return any(stage not in there or self.ledger.damaged(stage) for stage in (*self.idle, *self.computed))

    def _add_origin(self, key: str) -> str:
        """Add to the key whether data are simulated, which every file states."""
        return content_key(key, "simulated") if self.ledger.simulated else key

    def build_provenance(self, parameters: Mapping[str, Any], inputs: Sequence[str] = ()) -> dict[str, Any]:
        """Build the provenance for a sidecar; inputs are named relative to the study file."""
        named = {Path(os.path.relpath(i, self.study.folder)).as_posix(): self.digest(i) for i in inputs}
        return self.ledger.provenance(parameters=parameters, inputs=named)

    def save_table(
        self, table: pd.DataFrame, path: Path, *, columns: Mapping[str, str], about: Mapping[str, Any]
    ) -> Iterator[Path]:
        """Write a table and its sidecar, and return both."""
        yield write_table(table, path, columns=columns, about=about)
        yield path.with_suffix(".json")

    def save_person_table(
        self,
        table: pd.DataFrame,
        person: Participant,
        ending: str,
        *,
        desc: str,
        columns: Mapping[str, str],
        about: Mapping[str, Any],
    ) -> Iterator[Path]:
        """Write a table of a participant under the name of its ending and `desc`, with its sidecar; return both."""
        path = make_parent(self.build_subject_path(person, ending, desc=desc))
        yield from self.save_table(table, path, columns=columns, about=about)

    def save_map(
        self, image: Nifti1Image | SurfaceData, path: Path, *, label: str, space: str, about: Mapping[str, Any]
    ) -> Iterator[Path]:
        """Write a map with its label, space and command inside, and its sidecar, and return all files."""
        if isinstance(image, SurfaceData):
            named = replace(image, labels=(label,))
            yield from save_surface(named, make_parent(path), overwrite=True, history=self._history)
            yield self.write_sidecar(path, about)
            return
        known = None if space == "native" else "MNI" if space.startswith("MNI") else space  # AFNI's names
        saved = save_image(image, make_parent(path), labels=[label], space=known, history=self._history, overwrite=True)
        yield from list_image_files(saved)
        yield self.write_sidecar(path, about)

    @property
    def _history(self) -> str:
        return command_line() + (" (simulated data)" if self.study.settings.study.simulated else "")

    def write_sidecar(self, path: Path, content: Mapping[str, Any]) -> Path:
        """Write the JSON file beside a result."""
        return write_json(build_sidecar_path(path), content)

    def read_sidecar(self, path: Path) -> dict[str, Any]:
        """Read the JSON file beside a result; empty where there is none."""
        beside = build_sidecar_path(path)
        return dict(json.loads(beside.read_text(encoding="utf-8"))) if beside.exists() else {}

    def read_group_sidecar(self, name: str) -> dict[str, Any]:
        """Read the JSON file beside a table of the group, by the plain name of the table; empty where there is none."""
        return self.read_sidecar(self.build_table_path(name))

    def read_group_table(self, name: str) -> pd.DataFrame | None:
        """Read a table of the group by its plain name; None where there is none."""
        path = self.build_table_path(name)
        return read_results_table(path) if path.exists() else None

    def read_person_tables(self, ending: str, *, desc: str) -> list[pd.DataFrame]:
        """Read one table of all participants whose results exist."""
        paths = [self.build_subject_path(person, ending, desc=desc) for person in self.study.participants()]
        return [read_results_table(path) for path in paths if path.exists()]

    def load_sounds_for(self, like: Any) -> Sounds:
        """Load the study's sounds as the network takes them that a `Checkpoint` describes."""
        found: Sounds = like.load_sounds(self.sounds_table)
        return found

    @property
    def sounds_table(self) -> Path:
        """Return the path of the table of sounds."""
        return Path(self.study.resolve(self.study.settings.stimuli.table))

    @cached_property
    def stimuli(self) -> dict[str, str]:
        """Return the condition of each stimulus, in the order of the table."""
        return dict(zip(self._sounds.items, self._sounds.conditions, strict=True))

    @property
    def sound_columns(self) -> pd.DataFrame:
        """Return the table of sounds with all of its columns, a row for each stimulus."""
        return self._sounds.table

    @cached_property
    def _sounds(self) -> Sounds:
        return load_sounds(self.sounds_table)


@contextmanager
def restrict_threads() -> Iterator[None]:
    """Restrict torch and BLAS to one thread per operation, since the split into threads decides the last bits.

    Several threads are used where whole pieces of a fixed size run side by side (spheres, batches of sounds, patterns).
    Only what computes is restricted, so that a run with nothing to do needs neither torch nor scipy.
    """
    import scipy.linalg  # noqa: F401  # its BLAS is limited only once it is loaded

    from brainmap.features.layers.running import use_one_thread

    with use_one_thread(), limit_blas():
        yield


def apply_grid_tolerance(work: Callable[Concatenate[Context, P], R]) -> Callable[Concatenate[Context, P], R]:
    """Make a function of a study compare grids as `[study] grid_tolerance` says.

    A tolerance that is in force already, as that of `brainmap --grid-tolerance`, comes before the study file's.
    """

    @wraps(work)
    def within(context: Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
        said = context.study.settings.study.grid_tolerance if get_grid_tolerance() is None else None
        with grid_tolerance(said):
            return work(context, *args, **kwargs)

    return within


def hash_image(name: str | Path) -> str:
    """Compute the SHA-256 of a file, or of both files of an AFNI dataset."""
    return content_key([file_digest(f) for f in list_image_files(name)])


def make_parent(path: Path) -> Path:
    """Return the path after creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def verify_results(context: Context) -> int:
    """Read every result of a study, compare it with what was written, and return the number of results.

    Raises
    ------
    InputError
        Results are missing or have other content.
    """
    stages = context.ledger.stages()
    wrong = sorted({path for stage in stages for path in context.ledger.damaged(stage, verify=True)})
    if wrong:
        raise InputError(
            "\n".join(
                f"results: {path} {'has changed since brainmap wrote it' if path.exists() else 'is gone'}; run the "
                "study, which makes it again"
                for path in wrong
            )
        )
    return len({path for stage in stages for path in context.ledger.files(stage)})


def check_output(context: Context) -> None:
    """Refuse an output folder that holds another study, or other files."""
    out, name = context.study.out, context.study.settings.study.name
    if out.is_file():
        raise InputError(f"[study] out: expected a folder, got the file {out}; name a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    refuse_links_out(out)
    try:
        found = json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))["Study"]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        if (out / ".brainmap").is_dir():
            return  # it belongs to brainmap; the description is written again
        raise InputError(
            f"[study] out: expected an empty or new folder, got {out}, whose files are not brainmap's; name another"
        ) from None
    if found != name:
        raise InputError(
            f"[study] out: {out} holds the results of another study ({found!r}, this one is {name!r}); "
            "name another folder"
        )


def make_rng(context: Context, purpose: str) -> np.random.Generator:
    """Return random numbers for one purpose, which are independent of all other purposes."""
    return np.random.default_rng(np.random.SeedSequence([context.study.settings.study.seed, *purpose.encode()]))
