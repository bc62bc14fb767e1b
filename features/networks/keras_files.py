"""Load Keras files (`.keras`, `.h5`) through Keras 3 on its torch backend, without running code of the file.

Keras reads the file in its safe mode, after every class that the configuration names is found to be one of Keras' own.
Its layers then become modules of torch (`brainmap.features.networks.keras_layers`), whose output is compared with
Keras' own before anybody gets the network.

Run the graph of a Keras network with modules of torch, so that layers have names, hooks and gradients.
"""

from __future__ import annotations

import json
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from brainmap.errors import InputError, RunError
from brainmap.features.networks.exported import DAMAGED, list_archive
from brainmap.features.networks.keras_graph import KerasNetwork, import_keras
from brainmap.features.networks.keras_modules import Layout
from brainmap.references import first_line

"""A layer, its arguments by place and by name, and the numbers of the tensors that it gives."""


_HDF5 = b"\x89HDF\r\n\x1a\n"
_ROOMS = "layers|models|initializers|regularizers|constraints|activations|ops|dtype_policies"
_MODULES = re.compile(rf"builtins|keras\.({_ROOMS})|keras\.src\.({_ROOMS})(\.\w+)*")
_OF_KERAS = ("Functional", "Sequential", "Model", "DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy", "KerasTensor")
_CODE = ("Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "function")
_READERS = ("StringLookup", "IntegerLookup", "TextVectorization")  # they read the files that a configuration names
_LENGTHS = {1: (16_000, 2_048, 256, 48_000), 2: (128, 64, 256)}  # tried where a network takes any length
_CLOSE, _CLOSE_NARROW = 1e-5, 3e-2  # the latter where Keras computes in float16 or bfloat16


def is_keras(path: Path) -> bool:
    """Tell whether a file is one of Keras, by its content: an archive of Keras 3, or HDF5."""
    if {"config.json", "model.weights.h5"} <= set(list_archive(path)):
        return True
    with path.open("rb") as file:
        return file.read(len(_HDF5)) == _HDF5


def load_keras(path: Path) -> KerasNetwork:
    """Load a Keras network in eval mode on the CPU.

    Raises
    ------
    InputError
        Keras is not installed or runs on another backend; the file is damaged, holds weights alone, or names classes
        that are not Keras' own (Lambda layers hold code); the network has several inputs, or masks.
    RunError
        The modules of torch do not give what Keras gives.
    """
    keras = import_keras()
    _check_config(path, _read_config(path))
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), keras.device("cpu"):
            warnings.simplefilter("ignore")
            network = _load_model(keras, path)
    except InputError:
        raise
    except Exception as error:  # Keras raises whatever a wrong value in a file raises
        raise InputError(
            f"checkpoint: Keras {keras.__version__} cannot load {path} ({first_line(error)}); save the model again "
            "with model.save('name.keras')"
        ) from None
    inputs = list(getattr(network, "inputs", None) or ())
    if len(inputs) != 1:
        raise InputError(
            f"checkpoint: expected a sequential or functional Keras model with one input, got {len(inputs)} in {path}"
        )
    broken = [one.path for one in network.variables if not bool(torch.isfinite(one.value).all())]
    if broken:
        raise InputError(f"checkpoint: {path} holds NaN or infinite weights in {broken[0]}; its training failed")
    layout = Layout(channels_last="channels_first" not in set(_list_formats(network)))
    made = KerasNetwork(network, layout).eval()
    _compare_outputs(keras, path, network, made, layout)
    return made


def _read_config(path: Path) -> Any:
    """Read the configuration of a network, without its weights."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        import h5py

        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
        if text is not None:
            return json.loads(text)
    except (*DAMAGED, KeyError, RecursionError, RuntimeError) as error:
        raise InputError(f"checkpoint: {path} is no readable Keras file ({first_line(error)}); copy it again") from None
    raise InputError(
        f"checkpoint: {path} holds no network (weights alone, or another kind of HDF5 file); load the weights into "
        "the model in Keras and call model.save('name.keras')"
    )


def find_keras_length(path: Path) -> int | None:
    """Find how many samples the network of a Keras file takes; None where it takes any number, or no waveforms.

    Raises
    ------
    InputError
        The file is damaged or holds no network.
    """
    for found in _walk_config(_read_config(path)):
        if found["class_name"] == "InputLayer" and isinstance(found.get("config"), dict):
            shape = found["config"].get("batch_shape") or found["config"].get("batch_input_shape") or ()
            within = [n for n in shape[1:] if n != 1]
            return within[0] if len(within) == 1 and len(shape) < 4 else None
    return None


def _check_config(path: Path, config: Any) -> None:
    """Refuse a configuration that names code, or classes that are not Keras' own."""
    for found in _walk_config(config):
        name, module = str(found["class_name"]), found.get("module") or "keras.layers"
        own = _MODULES.fullmatch(module) or (module == "keras" and name in _OF_KERAS)
        if name in _CODE:
            about = found.get("config")
            called = about.get("name", "") if isinstance(about, dict) else about
            raise InputError(
                f"checkpoint: {path} holds code of its own ({name} {called!r}), which is refused; write it as layers "
                "of Keras, or rebuild the network in PyTorch and give its state_dict"
            )
        if not own or name in _READERS or ">" in name:
            raise InputError(
                f"checkpoint: {path} names the class {module}.{name}, which is not one of Keras' own layers; write it "
                "as layers of Keras, or rebuild the network in PyTorch and give its state_dict"
            )


def _walk_config(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every part of a configuration that names a class."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _load_model(keras: Any, path: Path) -> Any:
    """Load a file in safe mode, under a name whose ending is that of its content, which Keras goes by."""
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / ("network.keras" if zipfile.is_zipfile(path) else "network.h5")
        named.symlink_to(path.resolve())
        return keras.models.load_model(named, compile=False, safe_mode=True)


def _list_formats(network: Any) -> Iterator[str]:
    """Yield where the convolutions and poolings of a network, at any depth, have their channels."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from _list_formats(layer)
        elif hasattr(layer, "data_format") and ("Conv" in type(layer).__name__ or "Pool" in type(layer).__name__):
            yield layer.data_format


def _compare_outputs(keras: Any, path: Path, network: Any, made: KerasNetwork, layout: Layout) -> None:
    """Compare the modules of torch with Keras itself on noise.

    Raises
    ------
    RunError
        They differ.
    """
    with torch.no_grad(), keras.device("cpu"):
        noise, wanted = _run_noise(network, made.takes, layout)
        found = made(noise[:, None] if noise.ndim == 2 else noise)
    narrow = getattr(network, "compute_dtype", "float32") in ("float16", "bfloat16")
    for one, other in zip(_list_outputs(found), _list_outputs(wanted), strict=True):
        error = float((one - layout.move_second(other)).abs().max())
        if not error <= (_CLOSE_NARROW if narrow else _CLOSE) * max(1.0, float(other.abs().max())):
            raise RunError(
                f"checkpoint: the network of {path} gives values that differ by {error:.2g} from those of Keras "
                f"{keras.__version__}; please report this with the file's config.json"
            )


def _run_noise(network: Any, takes: Sequence[int | None], layout: Layout) -> tuple[Tensor, Any]:
    """Run Keras itself on noise of the shape that it takes, and return both."""
    rng = torch.Generator().manual_seed(0)
    said = ""
    for length in _LENGTHS[min(len(takes) - 1, 2) or 1]:
        noise = torch.randn(2, *(length if n is None else n for n in takes), generator=rng)
        try:
            return noise, network(layout.move_last(noise), training=False)
        except Exception as refused:  # Keras raises whatever too short an input raises
            said = first_line(refused)
    raise InputError(f"checkpoint: Keras cannot run its own network ({said})") from None


def _list_outputs(value: Any) -> list[Tensor]:
    if isinstance(value, dict):
        return [one.float() for one in value.values()]
    return [one.float() for one in (value if isinstance(value, list | tuple) else [value])]
