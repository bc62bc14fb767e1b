"""Let several networks answer as one: the mean of their outputs, for ascent through an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from brainmap.checks import list_some
from brainmap.errors import InputError


class Ensemble(nn.Module):
    """Average the outputs of networks that take the same input, in the order of the first one's classes.

    Outputs are averaged as they are: give networks that return logits, or predictions of the same regions.

    Parameters
    ----------
    members : sequence of torch.nn.Module
    class_names : sequence of sequence of str, optional
        Names of the outputs of each member, by which they are matched; without them outputs are matched by place.

    Raises
    ------
    InputError
        Fewer than two networks, or names that differ.

    Examples
    --------
    >>> first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> both = Ensemble([first, second], class_names=[("a", "b"), ("b", "a")])
    >>> x = torch.ones(1, 2)
    >>> bool(torch.allclose(both(x), (first(x) + second(x).flip(1)) / 2))
    True
    """

    def __init__(self, members: Sequence[nn.Module], class_names: Sequence[Sequence[str]] | None = None) -> None:
        super().__init__()
        if len(members) < 2:
            raise InputError(f"ensemble: expected two networks or more, got {len(members)}")
        self.members = nn.ModuleList(members)
        names = [tuple(map(str, one)) for one in class_names or []]
        if class_names is not None and len(names) != len(members):
            raise InputError(f"ensemble: expected names of {len(members)} networks, got {len(names)}")
        for at, other in enumerate(names[1:], start=1):
            apart = sorted(set(names[0]) ^ set(other))
            if apart or len(other) != len(names[0]):
                raise InputError(
                    f"ensemble: expected networks of the same classes, got {list_some(apart, 6)} in one of the first "
                    f"and number {at + 1} only; leave that network out"
                )
        self.orders = [[other.index(name) for name in names[0]] for other in names] if names else []
        self.classes: tuple[str, ...] = names[0] if names else ()

    def forward(self, sounds: Tensor) -> Tensor:
        """Compute the mean output (n, n_outputs).

        Raises
        ------
        InputError
            The outputs differ in shape.
        """
        found = [member(sounds) for member in self.members]
        if self.orders:
            found = [out[:, order] for out, order in zip(found, self.orders, strict=True)]
        shapes = {tuple(out.shape) for out in found}
        if len(shapes) > 1:
            raise InputError(f"ensemble: expected outputs of one shape, got {list_some(sorted(shapes))}")
        return torch.stack(found).mean(0)
