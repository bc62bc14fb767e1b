"""Build control networks: the same architecture without the learned weights."""

from __future__ import annotations

import copy
from typing import Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import nn

from brainmap.checks import check_choice, refuse_some
from brainmap.errors import InputError
from brainmap.features.layers.running import evaluating, forward, get_device
from brainmap.features.sounds.batches import Sounds, iterate_tensors
from brainmap.types import Control


@runtime_checkable
class RedrawsItself(Protocol):
    """Describe a network that draws its weights again itself, because its modules cannot do so one by one."""

    def redraw(self) -> None:
        """Draw all weights again from torch's random numbers, as a new network of its class does."""


def control_network(
    model: nn.Module,
    kind: Control = "untrained",
    *,
    rng: np.random.Generator,
    sounds: Sounds | None = None,
    batch_size: int = 32,
) -> nn.Module:
    """Copy a network with fresh or permuted weights.

    Both kinds keep the architecture; "permuted" also keeps the distribution of the weights within each tensor. The
    statistics of batch normalization belong to the old weights (with them, 22 of 64 channels of an untrained network's
    last layer were inactive), so they are measured again on the sounds.

    Parameters
    ----------
    model : torch.nn.Module
        It is not changed.
    kind : {"untrained", "permuted"}
        "untrained" draws the weights again as each module initializes itself; "permuted" shuffles each parameter
        tensor.
    rng : numpy.random.Generator
    sounds : Sounds, array or Tensor (n_items, c, t) or (n_items, c, h, w), optional
        They are needed with batch normalization.
    batch_size : int

    Returns
    -------
    torch.nn.Module
        The network in eval mode, on the same device.

    Raises
    ------
    InputError
        An unknown kind; a module that cannot initialize its parameters; batch normalization without sounds.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU())
    >>> control = control_network(net, "permuted", rng=np.random.default_rng(0))
    >>> bool((control[0].weight.sort(dim=0).values.sum() - net[0].weight.sum()).abs() < 1e-5)
    True
    """
    check_choice(kind, get_args(Control), "control")
    control = copy.deepcopy(model).eval()
    if kind == "untrained":
        redraw(control, rng)
    else:
        with torch.no_grad():
            for parameter in control.parameters():
                order = torch.from_numpy(rng.permutation(parameter.numel())).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    if list_norms(control):
        if sounds is None:
            raise InputError("control: the network normalizes by batch statistics; give sounds to measure them on")
        recalibrate(control, sounds, batch_size=batch_size)
    return control


def recalibrate(model: nn.Module, sounds: Sounds, *, batch_size: int = 32) -> None:
    """Measure the statistics of all batch normalizations again, in place.

    Batches have even sizes and are weighted by their size, so that a short last batch does not distort the mean.
    """
    n_batches = -(-len(sounds) // batch_size)
    size = -(-len(sounds) // max(n_batches, 1))
    norms = list_norms(model)
    momenta = [norm.momentum for norm in norms]
    seen = 0
    with evaluating(model), torch.no_grad():
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.train()
            for batch in iterate_tensors(sounds, size, device=get_device(model)):
                seen += len(batch)
                for norm in norms:
                    norm.momentum = len(batch) / seen
                forward(model, batch)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def list_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """List the batch normalizations that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]


def redraw(model: nn.Module, rng: np.random.Generator) -> None:
    """Draw all weights again, in place, as each module or the network itself initializes them.

    Raises
    ------
    InputError
        A module that cannot initialize its parameters.
    """
    devices = [get_device(model)] if get_device(model).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # modules draw from torch's global state, which is restored afterwards
        torch.manual_seed(int(rng.integers(2**63)))
        if isinstance(model, RedrawsItself):
            model.redraw()
            return
        stuck = []
        for name, module in model.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif next(module.parameters(recurse=False), None) is not None:
                stuck.append(name or type(module).__name__)
    refuse_some(stuck, "control: modules ", " cannot draw new weights; use 'permuted'")
