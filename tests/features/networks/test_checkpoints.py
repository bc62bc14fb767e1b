"""Checkpoints: ours round trip, anybody's load, and no file runs code."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import stat
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.layers.running import evaluating
from brainmap.features.networks.checkpoints import load_network, save_checkpoint
from brainmap.features.networks.description import Checkpoint, load_checkpoint
from brainmap.features.networks.zoo import build_network, call_builder
from brainmap.features.sounds.front_ends import read_front_end

CH32 = Checkpoint(
    architecture="ch32", variant="bn", classes=("no", "yes", "maybe"), n_samples=4_000, training={"seed": 3}
)
SOUND = torch.randn(2, 1, 4_000, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    network = CH32.build()
    with torch.no_grad():
        network(SOUND)  # moves the running statistics away from their defaults
    return network.eval()


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def saved(folder: Path, content: object, name: str = "foreign.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def refused(path: Path, said: str, **kwargs: Any) -> str:
    with pytest.raises(InputError, match=said) as found:
        load_network(path, **kwargs)
    message = str(found.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path, model: nn.Module) -> None:
    path = save_checkpoint(model, tmp_path / "deep" / "a.safetensors", CH32)
    assert load_checkpoint(path) == CH32
    found = load_network(path)
    assert not found.training
    for name, value in weights_of(found).items():
        assert torch.equal(value, weights_of(model)[name])
    assert torch.equal(found(SOUND), model(SOUND))
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask  # as any other file of this user


def test_long_filters_and_tied_weights_survive(tmp_path: Path) -> None:
    long = Checkpoint(architecture="ch32", kernel=9, n_samples=4_000, classes=("a", "b"))
    network = long.build().eval()
    assert torch.equal(load_network(save_checkpoint(network, tmp_path / "l.safetensors", long))(SOUND), network(SOUND))
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    save_checkpoint(tied, tmp_path / "t.safetensors", Checkpoint(architecture="pkg:build"))


@pytest.mark.parametrize("name", ["foreign.pt", "foreign.pth", "foreign.ckpt"])
@pytest.mark.parametrize(
    "nest",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model": {"state_dict": w}},
        lambda w: {"model_state_dict": {f"module.{k}": v for k, v in w.items()}},
        lambda w: {f"_orig_mod.{k}": v for k, v in w.items()},
        lambda w: {f"module._orig_mod.{k}": v for k, v in w.items()},
        lambda w: {k: v for k, v in w.items() if "num_batches" not in k},
    ],
)
def test_state_dicts_load_however_they_were_wrapped(
    tmp_path: Path, model: nn.Module, name: str, nest: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    weights = {k: v for k, v in weights_of(model).items() if not k.startswith("output")}
    full = build_network("ch32", variant="bn", n_classes=3).eval()
    weights |= {k: v for k, v in weights_of(full).items() if k.startswith("output")}
    path = saved(tmp_path, nest(weights), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)  # of a prefix that is taken off
        found = load_network(path, architecture="ch32", variant="bn", n_classes=3)
    for key, value in weights.items():
        assert torch.equal(weights_of(found)[key], value) or "num_batches" in key


def test_a_network_whose_own_names_begin_like_a_wrapper_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_nets_a.py").write_text(
        "from torch import nn\nclass N(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.module = nn.Linear(2, 2)\ndef build():\n    return N()\n"
    )
    monkeypatch.chdir(tmp_path)
    network = call_builder("own_nets_a:build")
    path = saved(tmp_path, network.state_dict())
    found = load_network(path, architecture="own_nets_a:build")
    assert torch.equal(weights_of(found)["module.weight"], weights_of(network)["module.weight"])
    monkeypatch.delitem(sys.modules, "own_nets_a")


@pytest.mark.parametrize(
    ("prefix", "first"),
    [
        ("model.", "model."),
        ("net.", "net."),
        ("module.model.", "module.model."),
        ("backbone.encoder.", "backbone."),
        ("model._orig_mod.", "model._orig_mod."),
        ("_orig_mod.module.net.", "_orig_mod."),
    ],
)
def test_a_prefix_that_all_names_share_is_taken_off_and_said(tmp_path: Path, prefix: str, first: str) -> None:
    network = build_network("ch32", variant="bn", n_classes=3).eval()
    path = saved(tmp_path, {"state_dict": {prefix + k: v for k, v in network.state_dict().items()}})
    with pytest.warns(BrainmapWarning, match=f"share is taken off.*'{re.escape(first)}"):
        found = load_network(path, architecture="ch32", variant="bn", n_classes=3)
    sound = torch.randn(1, 1, 16_000)
    assert torch.equal(found(sound), network(sound))  # plain torch


def test_what_torch_compile_puts_inside_names_is_taken_off(tmp_path: Path) -> None:
    network = build_network("ch32").eval()
    inside = {k.replace(".", "._orig_mod.", 1): v for k, v in network.state_dict().items()}
    with pytest.warns(BrainmapWarning, match=r"_orig_mod\..* is read as"):
        found = load_network(saved(tmp_path, inside), architecture="ch32")
    assert torch.equal(weights_of(found)["output.weight"], weights_of(network)["output.weight"])


def test_a_prefix_that_makes_names_fit_only_in_part_is_no_way_in(tmp_path: Path) -> None:
    weights = {f"model.{k}": v for k, v in build_network("ch32").state_dict().items()}
    refused(saved(tmp_path, {**weights, "extra.weight": torch.ones(2)}), "lacks .*has", architecture="ch32")
    weights.pop("model.output.weight")
    with pytest.warns(BrainmapWarning, match="taken off"):
        refused(saved(tmp_path, weights), "lacks 'output.weight'", architecture="ch32")


def test_the_activation_of_a_foreign_network_can_be_said(tmp_path: Path) -> None:
    network = build_network("ch32", activation="elu", head="gap").eval()
    path = saved(tmp_path, network.state_dict())
    sound = torch.randn(1, 1, 16_000)
    assert torch.equal(load_network(path, architecture="ch32", activation="elu", head="gap")(sound), network(sound))


def test_safetensors_of_others_load_with_a_named_architecture(tmp_path: Path) -> None:
    network = build_network("ch32")
    safetensors.torch.save_file(network.state_dict(), tmp_path / "x.safetensors")
    load_network(tmp_path / "x.safetensors", architecture="ch32")
    refused(tmp_path / "x.safetensors", "does not say its architecture")
    with pytest.raises(InputError, match="no brainmap metadata"):
        load_checkpoint(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="no brainmap metadata"):
        load_checkpoint(saved(tmp_path, network.state_dict()))


class Evil:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["evil.pt", "evil.pth", "evil.bin", "evil.pt2"])
@pytest.mark.parametrize("old_pickle", [False, True])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, name: str, old_pickle: bool) -> None:
    mark = tmp_path / "it-ran"
    path = tmp_path / name
    if old_pickle:
        path.write_bytes(pickle.dumps({"conv1.weight": Evil(mark)}))
    else:
        torch.save({"conv1.weight": Evil(mark)}, path)
    message = refused(path, "checkpoint:", architecture="ch32")
    assert not mark.exists()
    if not name.endswith("pt2"):
        assert re.search(r"would run code .*mkdir.*refused.*state_dict", message)


def test_a_whole_model_is_refused_by_its_name(tmp_path: Path) -> None:
    message = refused(saved(tmp_path, build_network("ch32")), "would run code", architecture="ch32")
    assert "Sequential" in message


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.pt", "w") as archive:
        archive.writestr("t/data.pkl", b"")
        archive.writestr("t/constants.pkl", b"")
        archive.writestr("t/code/__torch__.py", "")
    refused(tmp_path / "t.pt", "TorchScript.*torch.export", architecture="ch32")


def test_the_file_of_another_does_not_choose_which_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    path = save_checkpoint(nn.Linear(2, 2), tmp_path / "a.safetensors", Checkpoint(architecture="os:getcwd"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    refused(path, "names the code 'os:getcwd'")
    save_checkpoint(nn.Linear(2, 2), tmp_path / "own.safetensors", Checkpoint(architecture="os:getpid"))  # makes a key
    refused(path, "names the code 'os:getcwd'")


def test_a_signature_does_not_hold_for_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = save_checkpoint(nn.Linear(2, 2), tmp_path / "a.safetensors", Checkpoint(architecture="os:getcwd"))
    with pytest.raises(InputError, match="expected os:getcwd to return a"):  # this user's own file: the code runs
        load_network(mine)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
        theirs = save_checkpoint(nn.Linear(2, 2), tmp_path / "b.safetensors", Checkpoint(architecture="os:getpid"))
    signatures = [re.search(rb'"signature":"(\w{64})"', path.read_bytes()) for path in (mine, theirs)]
    assert all(signatures)
    theirs.write_bytes(theirs.read_bytes().replace(signatures[1][1], signatures[0][1]))
    refused(theirs, "names the code 'os:getpid'")


def test_weights_that_do_not_fit_are_named_with_both_shapes(tmp_path: Path) -> None:
    path = saved(tmp_path, build_network("ch32").state_dict())
    message = refused(path, "does not fit", architecture="ch64")
    assert "conv1.weight: expected (64, 1, 5), got (32, 1, 5)" in message
    assert "lacks 'norm1.weight'" in refused(path, "does not fit", architecture="ch32", variant="bn")
    normed = saved(tmp_path, build_network("ch32", variant="bn").state_dict(), "n.pth")
    assert "has 'norm1.weight'" in refused(normed, "does not fit", architecture="ch32")
    assert "output.weight: expected (5, 448), got (16, 448)" in refused(path, "fit", architecture="ch32", n_classes=5)


def test_what_a_checkpoint_says_of_itself_is_not_contradicted_silently(tmp_path: Path, model: nn.Module) -> None:
    path = save_checkpoint(model, tmp_path / "a.safetensors", CH32)
    refused(path, "does not fit", architecture="ch64")
    refused(path, "expected 16 classes, got 3", n_classes=16)
    refused(path, "norm1.weight", variant="plain")
    load_network(path, architecture="ch32", variant="bn", n_classes=3)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    weights = build_network("ch32").state_dict()
    weights["conv2.bias"][3] = float("nan")
    refused(saved(tmp_path, weights), "NaN.*'conv2.bias'", architecture="ch32")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth", "a.pt2"])
@pytest.mark.parametrize("damage", ["empty", "half", "text", "flipped"])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, model: nn.Module, name: str, damage: str) -> None:
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_checkpoint(model, path, CH32)
    else:
        torch.save(model.state_dict(), path)
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "half": content[: len(content) // 2],
        "text": b"hello, I am no network",
        "flipped": content[::-1],
    }
    path.write_bytes(damaged[damage])
    refused(path, "checkpoint:", architecture="ch32")


@pytest.mark.parametrize("metadata", ["not json", "[]", '{"variant": "bn"}', '{"architecture": "ch32", "classes": 3}'])
def test_damaged_metadata_is_refused(tmp_path: Path, model: nn.Module, metadata: str) -> None:
    safetensors.torch.save_file(weights_of(model), tmp_path / "a.safetensors", metadata={"brainmap": metadata})
    refused(tmp_path / "a.safetensors", "metadata")


@pytest.mark.parametrize(
    ("content", "holds"),
    [([1, 2], "a list"), ({"epoch": 3}, "a dict of 'epoch'"), ({}, "an empty dict"), (torch.zeros(2), "Tensor")],
)
def test_files_without_weights_say_what_they_hold(tmp_path: Path, content: object, holds: str) -> None:
    refused(saved(tmp_path, content), holds, architecture="ch32")


def test_a_missing_checkpoint_names_the_nearest(tmp_path: Path) -> None:
    saved(tmp_path, {}, "Net.pth")
    with pytest.raises(InputError, match=r"did you mean 'Net\.pth'"):
        load_network(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("source", "reference", "said"),
    [
        ("def build():\n    return 3\n", "{}:build", "got an object of type int"),
        ("def build(n):\n    return n\n", "{}:build", "TypeError.*works without arguments"),
        ("def build():\n    return 3\n", "{}:biuld", "did you mean 'build'"),
        ("build = 3\n", "{}:build", "no function"),
        ("def build(:\n", "{}:build", "SyntaxError"),
        ("", "nosuchmodule_x:build", "cannot be imported"),
        ("", "ch23", "did you mean 'ch32'"),
    ],
)
def test_builders_that_do_not_build_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reference: str, said: str
) -> None:
    name = f"own_nets_{abs(hash((source, reference)))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    with pytest.raises(InputError, match=said) as found:
        call_builder(reference.format(name))
    assert "\n" not in str(found.value)
    assert sys.path == before
    sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def program(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "net.pt2"
    exported = torch.export.export(model, (SOUND,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(exported, path)
    return path


def rewritten(
    program: Path, path: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None
) -> Path:
    """A copy of an exported program with its members changed."""
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
        root = source.namelist()[0].split("/")[0]
        for name, content in (extra or {}).items():
            target.writestr(f"{root}/{name}", content)
    return path


@pytest.mark.parametrize("name", ["net.pt2", "net.pt"])
def test_an_exported_program_gives_the_same_logits_at_any_batch_size(
    tmp_path: Path, model: nn.Module, program: Path, name: str
) -> None:
    path = rewritten(program, tmp_path / name, lambda _, content: content)
    found = load_network(path)
    assert torch.equal(found(SOUND), model(SOUND))
    assert torch.equal(found(SOUND[:1].repeat(5, 1, 1))[:1], model(SOUND[:1].repeat(5, 1, 1))[:1])
    with evaluating(found):
        assert not found.training
    with pytest.raises(InputError, match="export it for this length"):
        found(torch.zeros(2, 1, 3_000))


def _evil_pickle(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save((Evil(mark),), buffer)
    return buffer.getvalue()


def _replace(old: str, new: str) -> Callable[[str, bytes], bytes]:
    return lambda name, content: content.replace(old.encode(), new.encode()) if "models/" in name else content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_replace("torch.ops.aten.relu.default", "torch.os.system"), "calls 'torch.os.system'"),
        (_replace("torch.ops.aten.relu.default", "_operator.call"), "calls '_operator.call'"),
        (_replace('"guards_code": []', '"guards_code": ["print(1)"]'), "evaluates"),
        (_replace("Symbol('s", "__import__('os').mkdir('it-ran') or Symbol('s"), "evaluates"),
        (_replace("Symbol('s", "Max('__import__(1)') + Symbol('s"), "evaluates"),
    ],
)
def test_an_exported_program_that_calls_or_evaluates_code_is_refused(
    tmp_path: Path, program: Path, change: Callable[[str, bytes], bytes], said: str
) -> None:
    refused(rewritten(program, tmp_path / "evil.pt2", change), f"could run code .*{said}.*refused")


def test_an_exported_program_with_pickles_or_libraries_is_refused(tmp_path: Path, program: Path) -> None:
    mark = tmp_path / "it-ran"
    evil = _evil_pickle(mark)
    inputs = rewritten(program, tmp_path / "a.pt2", lambda n, c: evil if "sample_inputs" in n else c)
    refused(inputs, "could run code .*pickle")

    def pickled(name: str, content: bytes) -> bytes:
        if name.endswith("weight_0"):
            return evil
        return content.replace(b'"use_pickle": false', b'"use_pickle": true') if "weights_config" in name else content

    refused(rewritten(program, tmp_path / "b.pt2", pickled), "could run code .*pickled tensors")
    for member in ("data/aotinductor/model/run.so", "data/constants/custom_obj_0", "data/weights/model.pt", "../x"):
        path = rewritten(program, tmp_path / "c.pt2", lambda _, c: c, {member: evil})
        refused(path, f"could run code .*{re.escape(member)}")
    assert not mark.exists()


def test_the_safe_copy_is_what_is_loaded(tmp_path: Path, program: Path, model: nn.Module) -> None:
    """Every member is looked at: JSON that is not the graph included."""
    config = rewritten(program, tmp_path / "a.pt2", lambda n, c: b"{" if "weights_config" in n else c)
    refused(config, "no readable torch.export program")
    with zipfile.ZipFile(program) as archive:
        graph = next(n for n in archive.namelist() if "/models/" in n)
        assert json.loads(archive.read(graph))["guards_code"] == []


def nested_in(path: Path) -> nn.Module:
    return load_network(path, architecture="ch32")


@pytest.mark.parametrize(
    "keys", [("checkpoint", "model"), ("network",), ("model", "module"), ("run", "last", "student")]
)
def test_the_only_weights_of_a_file_load_under_whatever_keys_they_lie(tmp_path: Path, keys: tuple[str, ...]) -> None:
    net = build_network("ch32")
    moments = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    content: object = net.state_dict()
    for key in reversed(keys):
        content = {key: content, "optimizer": moments, "epoch": 3}
    loaded = nested_in(saved(tmp_path, content))
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), net.state_dict().values(), strict=True))


def test_several_sets_of_weights_are_refused_and_named(tmp_path: Path) -> None:
    weights = build_network("ch32").state_dict()
    said = refused(saved(tmp_path, {"student": weights, "teacher": weights}), "one set of weights", architecture="ch32")
    assert "'student', 'teacher'" in said


def test_wrappers_of_a_part_are_taken_out_of_names(tmp_path: Path) -> None:
    net = build_network("ch32")
    first = next(iter(net.state_dict())).partition(".")[0]
    wrapped = {f"net.{k.replace(f'{first}.', f'{first}.module._orig_mod.', 1)}": v for k, v in net.state_dict().items()}
    with pytest.warns(BrainmapWarning, match=rf"'net\.{first}\.module\._orig_mod\."):
        loaded = nested_in(saved(tmp_path, {"state_dict": wrapped}))
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_a_name_that_lacks_the_prefix_of_the_others_is_named(tmp_path: Path) -> None:
    weights = build_network("ch32").state_dict()
    content = {"state_dict": {f"model.{k}": v for k, v in weights.items()} | {"extra.weight": torch.ones(3)}}
    said = refused(saved(tmp_path, content), "without 'model\\.'", architecture="ch32")
    assert f"{len(weights)} names fit" in said
    assert "'extra.weight' does not have it" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: (v * 10).long(), "of integers"),
        (lambda v: v.to(torch.complex64), "complex"),
        (lambda v: v.to_sparse(), "sparse"),
        (lambda v: v.to("meta"), "without values"),
    ],
)
def test_weights_of_another_kind_of_number_are_refused(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    weights = build_network("ch32").state_dict()
    first = next(iter(weights))
    refused(saved(tmp_path, {**weights, first: change(weights[first])}), said, architecture="ch32")


BESIDE = """
from torch import nn
import helper_{0}


def build():
    return nn.Sequential(nn.Conv1d(1, helper_{0}.WIDTH, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 3))


def double(sounds, rate):
    return 2 * sounds
"""


def forget_beside() -> None:
    for module in ("beside_a", "helper_a"):
        sys.modules.pop(module, None)


def test_code_is_found_beside_the_checkpoint_by_whoever_wrote_it_or_named_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "beside_a.py").write_text(BESIDE.format("a"))
    (folder / "helper_a.py").write_text("WIDTH = 2\n")
    monkeypatch.chdir(elsewhere)
    before = sys.path[:]
    about = Checkpoint(
        architecture="beside_a:build",
        classes=("a", "b", "c"),
        n_samples=40,
        input=read_front_end("beside_a:double"),
        beside=str(folder),
    )
    network = about.build()
    path = save_checkpoint(network, folder / "net.safetensors", about)
    torch.save(network.state_dict(), folder / "net.pt")
    for load in (
        lambda: load_network(path),
        lambda: load_network(folder / "net.pt", architecture="beside_a:build"),
    ):
        forget_beside()
        assert torch.equal(weights_of(load())["0.weight"], weights_of(network)["0.weight"])
    forget_beside()
    assert load_checkpoint(path).input_shape() == (1, 40)  # its front end is found there, too
    assert sys.path == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "beside_a.py").write_text(BESIDE.format("a"))
    shutil.copy(folder / "net.pt", other)
    with pytest.raises(InputError, match=r"expected module .*other/beside_a.py, got .*mine/beside_a.py, .* rename"):
        load_network(other / "net.pt", architecture="beside_a:build")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    forget_beside()
    with pytest.raises(InputError, match="was written elsewhere"):
        load_network(path)
    assert "beside_a" not in sys.modules
    monkeypatch.chdir(folder)  # what lies in the current folder or is installed comes first
    (folder / "beside_a.py").write_text(BESIDE.format("a").replace("Linear(2, 3)", "Linear(2, 4)"))
    shutil.copy(other / "beside_a.py", elsewhere)
    monkeypatch.chdir(elsewhere)
    assert load_network(folder / "net.pt", architecture="beside_a:build").state_dict()["3.weight"].shape == (3, 2)
    forget_beside()


def test_a_missing_checkpoint_that_is_shipped_says_where_it_lies(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*ch32\.safetensors; brainmap ships .*: copy (\S+) there") as said:
        load_network(tmp_path / "ch32.safetensors")
    shutil.copy(str(said.value).split("copy ")[1].removesuffix(" there"), tmp_path)
    assert isinstance(load_network(tmp_path / "ch32.safetensors"), nn.Module)
    with pytest.raises(InputError, match=r"no file .*ch23\.safetensors; did you mean 'ch32\.safetensors'\?"):
        load_network(tmp_path / "ch23.safetensors")
