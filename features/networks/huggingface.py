"""Load a network from a local Hugging Face folder (`config.json` and `model.safetensors`), without running its code.

Nothing is downloaded, and only classes of transformers itself are built. Sounds are fed as the folder's own feature
extractor feeds them. The hidden states are the layers `hidden.0` to `hidden.n`; every module is a layer by its name.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from brainmap.checks import list_some, refuse_some
from brainmap.errors import InputError
from brainmap.features.networks.extractors import Spectrograms, Waveforms, find_feeding
from brainmap.features.networks.files import CONFIG, PROCESSORS, WEIGHTS
from brainmap.features.networks.hidden_states import attach_hidden_states
from brainmap.features.networks.state_dicts import check_finite_weights
from brainmap.progress import log
from brainmap.references import first_line

_PARTS = {  # what is loaded for architectures of which only a part listens to sounds
    "ClapModel": "ClapAudioModelWithProjection",
    "WhisperForConditionalGeneration": "WhisperModel",
}
_AUDIO = ("input_values", "input_features")
_OUTPUTS = ("logits", "audio_embeds", "audio_values", "last_hidden_state")
_CLASSIFIERS = ("ForSequenceClassification", "ForAudioClassification")


class FolderNetwork(nn.Module):
    """Wrap a network of transformers as a module from sounds to one tensor, with the names of its own modules.

    It takes waveforms `(n, 1, n_samples)` that hold no padding; a network on spectrograms also takes its spectrograms,
    `(n, 1, bands, frames)`. It gives the logits where the network has them, and otherwise its last hidden state
    `(n, frames, units)`, embedding `(n, units)` or reconstruction `(n, 1, n_samples)`.

    Parameters
    ----------
    network : torch.nn.Module
        A model of transformers.
    feeding : Waveforms or Spectrograms
    """

    own_lengths = True
    """Sounds keep their own lengths: a batch holds sounds of one length, and nothing is padded."""

    def __init__(self, network: nn.Module, feeding: Waveforms | Spectrograms) -> None:
        super().__init__()
        self._whole = (network,)  # within a tuple it is no child, so that names of modules begin with its children
        self._parameters, self._buffers = network._parameters, network._buffers
        for name, child in network.named_children():
            self.add_module(name, child)
        self.feeding = feeding
        self.eval()
        seconds = 1.0 if isinstance(feeding, Waveforms) else min(1.0, feeding.longest / feeding.rate)
        noise = torch.randn(1, 1, round(seconds * feeding.rate), generator=torch.Generator().manual_seed(0))
        taken = inspect.signature(network.forward).parameters
        asked = any(one == "output_hidden_states" or taken[one].kind is taken[one].VAR_KEYWORD for one in taken)
        given = {**self._compute_arguments(0.1 * noise), **({"output_hidden_states": True} if asked else {})}
        width = getattr(network.config, "hidden_size", None)
        states = attach_hidden_states(network, given, width=width) if asked else []
        if states and not hasattr(self, "hidden"):
            self.hidden = nn.ModuleList(states)
        else:
            log.info("network: %s has no hidden states; its layers are its modules", type(network).__name__)

    @property
    def rate(self) -> int:
        """Rate of the sounds that the network takes [Hz]."""
        return self.feeding.rate

    @property
    def needs_spectrograms(self) -> bool:
        """Tell whether gradients reach only the spectrograms, since the feature extractor is no torch operation."""
        return isinstance(self.feeding, Spectrograms)

    def spectrograms(self, sounds: Tensor) -> Tensor:
        """Compute the spectrograms `(n, c, bands, frames)` that the network receives for sounds `(n, 1, t)`.

        Raises
        ------
        InputError
            The network takes waveforms.
        """
        if not isinstance(self.feeding, Spectrograms):
            raise InputError("network: it takes waveforms and no spectrograms")
        return self.feeding.spectrograms(sounds)

    @property
    def frame_rate(self) -> float:
        """Frames per second of the spectrograms, or samples per second of waveforms."""
        return self.rate / self.feeding.hop if isinstance(self.feeding, Spectrograms) else float(self.rate)

    def sounding_frames(self, n_samples: int) -> int:
        """Count the frames of a spectrogram that hold sound and no padding."""
        return self.feeding.sounding_frames(n_samples) if isinstance(self.feeding, Spectrograms) else n_samples

    def real_positions(self, lengths: tuple[int, ...], positions: tuple[int, ...]) -> Tensor | None:
        """Tell which positions of a layer hold sound and not the padding of the feature extractor.

        Parameters
        ----------
        lengths : tuple of int
            Shape of the input without items and channels.
        positions : tuple of int
            Lengths of the axes of positions of a layer.

        Returns
        -------
        Tensor of bool, shaped as `positions`, or None
            None where every position holds sound, as for spectrograms, whose length the caller chose.
        """
        return self.feeding.real(lengths[0], positions) if len(lengths) == 1 else None

    def frames_of(
        self, lengths: tuple[int, ...], positions: tuple[int, ...]
    ) -> tuple[tuple[str, ...], int | None, float | None] | None:
        """Return the names of axes of positions, and the step and first center of frames [samples].

        None means that the operations of the network tell them.
        """
        return self.feeding.frames(positions) if len(lengths) == 1 else None

    def train(self, mode: bool = True) -> FolderNetwork:
        """Set the mode, of the root of the network too."""
        super().train(mode)
        self._whole[0].training = mode
        return self

    def redraw(self) -> None:
        """Draw all weights again from torch's random numbers, as transformers initializes a network of this class.

        Codebooks, which are learned and are no parameters, are shuffled, since a new network has empty ones.
        """
        whole: Any = self._whole[0]
        fresh = dict(type(whole)(whole.config).named_parameters())
        with torch.no_grad():
            for name, parameter in whole.named_parameters():
                parameter.copy_(fresh[name])
            for name, buffer in whole.named_buffers():
                if name.endswith("codebook.embed"):
                    buffer.copy_(buffer.flatten()[torch.randperm(buffer.numel())].view_as(buffer))

    def describe(self, architecture: str) -> dict[str, Any]:
        """Return the configuration and the feature extractor, from which `build_described` builds the same network.

        `architecture` is the class of transformers of which this network is the part that listens.
        """
        whole: Any = self._whole[0]
        return {
            "config": {**json.loads(whole.config.to_json_string()), "architectures": [architecture]},
            "feature_extractor": json.loads(self.feeding.extractor.to_json_string()),
        }

    def extra_repr(self) -> str:
        """Describe how sounds are fed, on which activations depend."""
        whole: Any = self._whole[0]
        return f"{whole.config.to_json_string()}\n{self.feeding.extractor.to_json_string()}"

    def forward(self, sounds: Tensor) -> Tensor:
        """Compute the output for waveforms `(n, 1, n_samples)` or spectrograms `(n, 1, bands, frames)`."""
        if sounds.ndim not in ((3, 4) if self.needs_spectrograms else (3,)) or (
            sounds.ndim == 3 and sounds.shape[1] != 1
        ):
            raise InputError(f"network: expected sounds (n, 1, n_samples), got {tuple(sounds.shape)}")
        found = self._whole[0](**self._compute_arguments(sounds))
        for name in _OUTPUTS:
            value = getattr(found, name, None)
            if isinstance(value, Tensor):
                return value
        raise InputError(f"network: expected one of the outputs {list_some(_OUTPUTS)}, got {list_some(found)}")

    def _compute_arguments(self, sounds: Tensor) -> dict[str, Any]:
        given = self.feeding.arguments(sounds)
        dtype = next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)
        return {name: value.to(dtype) if value.is_floating_point() else value for name, value in given.items()}


def describe_folder(path: str | Path) -> dict[str, Any]:
    """Read the configuration and feature extractor of a folder, not its weights.

    Returns
    -------
    dict
        Settings of a `Checkpoint`: `architecture` is the class of transformers, `classes` are empty where the network
        classifies no sounds, and `n_samples` is the length of the longest sound that is not cut; 0 means any length.

    Raises
    ------
    InputError
        As `load_folder` does.
    """
    folder = Path(path)
    config = _read_config(folder)
    with _silence_transformers():
        kind, loaded = _class_of(folder, config)
        feeding = _read_feeding(folder, kind, loaded)
    classes: tuple[str, ...] = ()
    if kind.__name__.endswith(_CLASSIFIERS):
        classes = tuple(str(loaded.id2label[k]) for k in range(loaded.num_labels))
    return {
        "architecture": kind.__name__,
        "classes": classes,
        "rate": feeding.rate,
        "n_samples": feeding.longest,
    }


def load_folder(path: str | Path) -> FolderNetwork:
    """Load the network of a local Hugging Face folder in eval mode on the CPU.

    Parameters
    ----------
    path : path
        A folder with `config.json`, `model.safetensors` (or its shards) and `preprocessor_config.json`, as
        `save_pretrained` of a network and of its feature extractor write them.

    Returns
    -------
    FolderNetwork

    Raises
    ------
    InputError
        There is no configuration, feature extractor or safetensors file; the network exists only as code in the folder;
        it reads text or pictures; it wants stereo; weights are missing or have other shapes; transformers is not
        installed.
    """
    folder = Path(path)
    config = _read_config(folder)
    if not any((folder / name).is_file() for name in WEIGHTS):
        held = sorted(p.name for p in folder.iterdir())
        raise InputError(
            f"checkpoint: {folder} holds no {WEIGHTS[0]} (it holds {list_some(held)}); pickled weights could run "
            "code and are not read: load the network in transformers and call save_pretrained"
        )
    with _silence_transformers(), torch.random.fork_rng(devices=[]):
        kind, loaded = _class_of(folder, config)
        feeding = _read_feeding(folder, kind, loaded)
        network = _load_weights(folder, kind)
        return FolderNetwork(network, feeding).eval()


def build_described(stored: Mapping[str, Any]) -> FolderNetwork:
    """Build the network that `FolderNetwork.describe` described, with fresh weights.

    Raises
    ------
    InputError
        As `load_folder` does.
    """
    with tempfile.TemporaryDirectory() as name, _silence_transformers(), torch.random.fork_rng(devices=[]):
        folder = Path(name)
        for file, key in ((CONFIG, "config"), (PROCESSORS[0], "feature_extractor")):
            (folder / file).write_text(json.dumps(stored.get(key, {})), encoding="utf-8")
        kind, loaded = _class_of(folder, _read_config(folder))
        feeding = _read_feeding(folder, kind, loaded)
        return FolderNetwork(_find_listening_part(kind(loaded)), feeding).eval()


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        raise InputError(
            f"checkpoint: expected a Hugging Face folder with {CONFIG}, as save_pretrained writes it, or a file of "
            f"weights, got the folder {folder}"
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"checkpoint: {file} cannot be read ({str(error)[:120]}); copy it again") from None
    if not isinstance(config, dict):
        raise InputError(f"checkpoint: expected an object in {file}, got a {type(config).__name__}; copy it again")
    return config


def _class_of(folder: Path, config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Find the class of transformers that a configuration names, and load the configuration."""
    transformers = _import_transformers()
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    known = name.isidentifier() and hasattr(transformers, name)
    if config.get("auto_map") and not known:
        raise InputError(
            f"checkpoint: {folder} has its network ({name or 'unnamed'}) as Python code in the folder (auto_map), and "
            "code of a folder is never run; use a network whose class is part of transformers, or load it yourself and "
            "give the module from Python"
        )
    if not known:
        raise InputError(
            f"checkpoint: {folder / CONFIG} names the architecture {name or 'of none'!r}, which transformers "
            f"{transformers.__version__} does not have; save the network again with this version"
        )
    kind = getattr(transformers, _PARTS.get(name, name))
    argument = getattr(kind, "main_input_name", "")
    if argument not in _AUDIO:
        reads = {"input_ids": "text", "pixel_values": "pictures"}.get(argument, repr(argument))
        raise InputError(
            f"checkpoint: expected a network that takes sounds, got {name} in {folder}, which reads {reads}"
        )
    try:
        loaded = kind.config_class.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever a wrong value in a configuration raises
        raise InputError(f"checkpoint: {folder / CONFIG} cannot be used ({first_line(error)}); copy it again") from None
    return kind, loaded


def _read_feeding(folder: Path, kind: Any, config: Any) -> Waveforms | Spectrograms:
    if not any((folder / name).is_file() for name in PROCESSORS):
        raise InputError(
            f"checkpoint: {folder} holds no {PROCESSORS[0]}, which says the rate and how sounds are normalized; copy "
            "it from where the network comes from, or call save_pretrained(folder) of its feature extractor"
        )
    from transformers import AutoFeatureExtractor

    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever a wrong value in the file raises
        raise InputError(
            f"checkpoint: the feature extractor of {folder} cannot be loaded ({first_line(error)}); save it again with "
            "save_pretrained(folder)"
        ) from None
    return find_feeding(extractor, config, kind.main_input_name)


def _load_weights(folder: Path, kind: Any) -> nn.Module:
    try:
        network, about = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # transformers raises whatever a damaged file or a wrong shape raises
        raise InputError(
            f"checkpoint: the weights of {folder} do not fit its {CONFIG} ({first_line(error)}); copy the folder again"
        ) from None
    wrong = sorted(map(str, [*about["missing_keys"], *about["mismatched_keys"]]))
    refuse_some(
        wrong,
        f"checkpoint: the weights of {folder} lack ",
        f" of {kind.__name__}, which would be random; copy the folder again, or save the trained network with "
        "save_pretrained",
        most=4,
    )
    part = _find_listening_part(network)
    check_finite_weights(folder, part.state_dict())
    return part


def _find_listening_part(network: Any) -> nn.Module:
    """Return the part of a network that runs on sounds alone: the encoder of Whisper, the body of a pretraining."""
    name = type(network).__name__
    part = "encoder" if name == "WhisperModel" else "base_model" if name.endswith("ForPreTraining") else ""
    return cast(nn.Module, getattr(network, part) if part else network)


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError(
            "checkpoint: a Hugging Face folder needs transformers; pip install 'brainmap[transformers]'"
        ) from None
    return transformers


@contextmanager
def _silence_transformers() -> Iterator[None]:
    """Silence the log and progress bars of transformers, and restore both afterwards."""
    _import_transformers()
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
