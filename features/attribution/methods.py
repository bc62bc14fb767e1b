"""Attribute the logit of a class to the samples of a sound, with many methods behind one function.

* `saliency`, `input-x-gradient`, `integrated-gradients`, `smoothgrad`: gradients of the logit.
* `deconvolution`, `guided-backpropagation`, `guided-grad-cam`: gradients changed at the ReLUs, for networks whose
  only nonlinearity is the ReLU.
* `lrp`: layer-wise relevance propagation.
* `occlusion`, `lime`: no gradient; the network runs again on changed sounds.

The settings of a method, its formula and its paper are in the docstring of its class: `Saliency`, `InputXGradient`,
`IntegratedGradients`, `SmoothGrad`, `Deconvolution`, `GuidedBackpropagation`, `GuidedGradCam`, `Lrp`, `Occlusion`,
`Lime`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import check_choice, list_some, suggest_word
from brainmap.errors import BrainmapWarning, InputError, RunError
from brainmap.features.attribution.gradients import (
    Deconvolution,
    GuidedBackpropagation,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
)
from brainmap.features.attribution.lime import Lime
from brainmap.features.attribution.occlusion import Occlusion
from brainmap.features.attribution.results import Attributions, find_own_class
from brainmap.features.attribution.task import (
    Explainer,
    Found,
    Method,
    Task,
    choose_classes,
    compute_logits,
    find_not_finite,
)
from brainmap.features.layers.inputs import clear_padding, find_longest_lengths, make_differentiable
from brainmap.features.layers.listing import list_layers, say_taken_off
from brainmap.features.layers.running import evaluating
from brainmap.features.sounds.batches import Sounds, SoundSource, get_labels, iterate_tensors, number_batches
from brainmap.features.sounds.inputs import compute_input_rate, describe_input
from brainmap.progress import progress


@dataclass(frozen=True, kw_only=True)
class Lrp:
    """Propagate relevance from layer to layer, as `brainmap.features.attribution.lrp` describes.

    Parameters
    ----------
    rules : str or composite, optional
        Rules as `lrp.relevance` takes them.

    References
    ----------
    Bach et al. 2015, doi:10.1371/journal.pone.0130140
    """

    rules: Any = None

    @property
    def products(self) -> bool:
        """Tell whether a map is a product of samples and gradients, as it is by the rules epsilon and z."""
        return self.rules in ("epsilon", "z")

    def begin(self, task: Task) -> Explainer:
        """Prepare the method for one call."""
        from brainmap.features.attribution.lrp import relevance

        given = {} if self.rules is None else {"rules": self.rules}

        def run(batch: Tensor, targets: Tensor, _: slice) -> Found:
            found = relevance(
                task.model, batch, targets=targets.cpu().numpy(), batch_size=len(batch), device=task.device, **given
            )
            task.advance(len(batch))
            maps, absorbed = (torch.as_tensor(part, device=batch.device) for part in (found.maps, found.absorbed))
            logits = task.compute_scores(batch[None], targets)[0]
            return Found(maps=maps, delta=maps.flatten(2).sum(2) + absorbed - logits)

        return Explainer(passes=2, run=run)


METHODS: dict[str, type[Method]] = {
    "saliency": Saliency,
    "input-x-gradient": InputXGradient,
    "integrated-gradients": IntegratedGradients,
    "smoothgrad": SmoothGrad,
    "deconvolution": Deconvolution,
    "guided-backpropagation": GuidedBackpropagation,
    "guided-grad-cam": GuidedGradCam,
    "lrp": Lrp,
    "occlusion": Occlusion,
    "lime": Lime,
}


def attribute(
    model: nn.Module,
    sounds: Sounds,
    *,
    method: str,
    classes: str | int | Sequence[str | int] = "predicted",
    class_names: Sequence[str] | None = None,
    layer: str | None = None,
    rate: float | None = None,
    batch_size: int = 8,
    device: str = "cpu",
    rng: np.random.Generator | None = None,
    **settings: Any,
) -> Attributions:
    """Attribute the logits of classes to the samples of each sound.

    The network runs in eval mode; a softmax at its end is taken off. Maps are signed, except those of `saliency` by
    default. Neither batches nor the order of the items change a map.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n_items, c, t) or (n_items, c, h, w)
    method : str
        A key of `METHODS`; the docstring of the module lists them.
    classes : "predicted", "true", "all", a name or position, or a sequence of names and positions
        "predicted" is the class of the largest logit of each item, "true" the class named like its condition.
    class_names : sequence of str, optional
        Class names in the order of the network's outputs; by default `model.class_names`, or else positions.
    layer : str, optional
        The convolution of `guided-grad-cam`, by default the last one.
    rate : float, optional [Hz]
        Rate of sounds that do not carry theirs.
    batch_size : int
        Number of sounds in one forward pass.
    device : str
    rng : numpy.random.Generator, optional
        Random numbers of `smoothgrad` and `lime`; by default a generator with seed 0.
    **settings
        Settings of the method, which are the fields of its class.

    Returns
    -------
    Attributions

    Raises
    ------
    InputError
        An unknown method, setting, class or layer; a network for which the method is not valid; a network whose outputs
        are probabilities.
    RunError
        Logits or maps are not finite, or logits have no gradient with respect to the sounds.

    Warns
    -----
    BrainmapWarning
        Maps are zero everywhere.

    References
    ----------
    Simonyan, Vedaldi and Zisserman 2014, doi:10.48550/arXiv.1312.6034 (saliency); Sundararajan, Taly and Yan 2017,
    doi:10.48550/arXiv.1703.01365 (integrated gradients); Smilkov et al. 2017, doi:10.48550/arXiv.1706.03825
    (SmoothGrad); Zeiler and Fergus 2014, doi:10.1007/978-3-319-10590-1_53 (deconvolution, occlusion); Springenberg et
    al. 2015, doi:10.48550/arXiv.1412.6806 (guided backpropagation); Ribeiro, Singh and Guestrin 2016,
    doi:10.1145/2939672.2939778 (LIME); Bach et al. 2015, doi:10.1371/journal.pone.0130140 (LRP).

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    >>> x = np.random.default_rng(0).standard_normal((2, 1, 40), np.float32)
    >>> attribute(net, x, method="integrated-gradients", classes="all", steps=20).maps.shape
    (2, 3, 1, 40)
    >>> found = attribute(net, x, method="occlusion", rate=1000, window_ms=10)
    >>> found.maps.shape, found.effects.shape, found.windows[1].tolist()
    ((2, 1, 1, 40), (2, 1, 7, 1), [[5, 15]])
    """
    chosen = _make_method(check_choice(method, tuple(METHODS), "method"), settings)
    if layer is not None and method != "guided-grad-cam":
        raise InputError(f"layer: {method} takes none, only 'guided-grad-cam' does; leave it out")
    sounds = make_differentiable(model, sounds)
    items, conditions = get_labels(sounds)
    with evaluating(model, device), torch.no_grad():
        logits = torch.cat(
            [compute_logits(model, batch) for batch in iterate_tensors(sounds, batch_size, device=device)]
        )
        say_taken_off(list_layers(model, sounds)[-1])
        names = choose_classes(logits, "all", class_names or getattr(model, "class_names", None)).names
        _check_finite_logits(logits, items, "logit")
        targets = _choose_classes(logits, classes, names, conditions if isinstance(sounds, SoundSource) else None)
        example = next(iterate_tensors(sounds, 1, device=device))[:1]
        task = Task(
            model=model,
            sounds=sounds,
            example=example,
            targets=targets,
            rate=compute_input_rate(sounds, tuple(example.shape[1:])) if rate is None else rate,
            axes=describe_input(sounds),
            rng=rng or np.random.default_rng(0),
            layer=layer,
            batch_size=batch_size,
            device=device,
        )
        ready = chosen.begin(task)
        parts = _run_batches(ready, task, items, method)
    result = Attributions(
        **parts,
        items=items,
        conditions=conditions,
        class_names=names,
        targets=_convert_to_numpy(targets, np.intp),
        method=method,
        layer=ready.layer,
        logits=_convert_to_numpy(logits),
        rate=task.rate,
        windows=ready.windows,
        bands=ready.bands,
        products=bool(getattr(chosen, "products", False)),
    )
    _warn_of_zero_maps(result)
    return result


def _make_method(method: str, given: dict[str, Any]) -> Method:
    known = [found.name for found in fields(METHODS[method])]  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            takes = f"it takes {list_some(known, 24)}" if known else "it takes none"
            raise InputError(f"{method}: no setting {name!r}{suggest_word(name, known)}; {takes}")
    return METHODS[method](**given)


def _choose_classes(
    logits: Tensor, classes: str | int | Sequence[str | int], names: Sequence[str], conditions: Sequence[str] | None
) -> Tensor:
    """Return the positions (n_items, n_chosen) of the classes to explain."""
    if isinstance(classes, str) and classes == "predicted":
        return logits.argmax(1, keepdim=True)
    if isinstance(classes, str) and classes == "true":
        if conditions is None:
            raise InputError("classes: 'true' needs sounds that say their conditions; give Sounds, or class names")
        return torch.as_tensor(find_own_class(conditions, names), device=logits.device)[:, None]
    columns = choose_classes(logits, classes, names).columns
    return torch.tensor(columns, device=logits.device).expand(len(logits), -1)


def _run_batches(ready: Explainer, task: Task, items: Sequence[str], method: str) -> dict[str, Any]:
    """Explain the sounds in batches, and join the arrays of `Found` over all items."""
    arrays: dict[str, Any] = {}
    with progress(method, len(items) * ready.passes) as step:
        task.advance = step.advance
        for done, batch in number_batches(iterate_tensors(task.sounds, task.batch_size, device=task.device)):
            rows = slice(done, done + len(batch))
            fixed = ready.windows is not None or ready.layer is not None
            if fixed and batch.shape[2:] != task.example.shape[2:]:
                raise InputError(
                    f"{method}: expected sounds of one length, got several; give seconds to which all sounds are cut, "
                    "or use a method of gradients ('integrated-gradients')"
                )
            found = ready.run(batch, task.targets[rows], rows)
            if not bool(found.maps.isfinite().all()):
                _raise_not_finite(task, found, batch, rows, method, items)
            for name in ("maps", "delta", "fidelity", "effects"):
                part = getattr(found, name)
                if part is None:
                    continue
                if name not in arrays:
                    lengths = find_longest_lengths(task.sounds, batch)
                    shape = (*part.shape[1 : -len(lengths)], *lengths) if name == "maps" else part.shape[1:]
                    arrays[name] = np.zeros((len(items), *shape), np.float32)
                arrays[name][rows, ..., : part.shape[-1]] = _convert_to_numpy(
                    part
                )  # after the end of a sound maps are zero
    clear_padding(task.sounds, arrays["maps"])
    return arrays


def _raise_not_finite(
    task: Task, found: Found, batch: Tensor, rows: slice, method: str, item_ids: Sequence[str]
) -> None:
    """Raise an error that says which map is not finite, and where in the network this begins."""
    item, place = map(int, (~found.maps.isfinite().flatten(2).all(2)).nonzero()[0])
    where = find_not_finite(task.model, batch[item : item + 1], int(task.targets[rows][item, place]))
    raise RunError(
        f"{method}: the map of item {item_ids[rows][item]!r} is not finite, beginning with the {where}; "
        "look at that sound and the weights"
    )


def _convert_to_numpy(values: Tensor, dtype: Any = np.float32) -> NDArray[Any]:
    return np.asarray(values.detach().cpu().numpy(), dtype=dtype)


def _check_finite_logits(logits: Tensor, items: Sequence[str], what: str) -> None:
    bad = (~logits.isfinite()).nonzero()
    if len(bad):
        raise RunError(
            f"attribution: a {what} of item {items[int(bad[0, 0])]!r} is not finite; look at that sound and the weights"
        )


def _warn_of_zero_maps(found: Attributions) -> None:
    zero = np.argwhere(~found.maps.reshape(*found.maps.shape[:2], -1).any(axis=2))
    if len(zero):
        item, place = zero[0]
        why = "Grad-CAM is nowhere positive" if found.layer else "the network may be dead, or saturated at its end"
        warnings.warn(
            f"{found.method}: {len(zero)} of {found.targets.size} maps are zero everywhere, the first for item "
            f"{found.items[item]!r}, class {found.names(item)[place]!r}; {why} for them",
            BrainmapWarning,
            stacklevel=3,
        )
