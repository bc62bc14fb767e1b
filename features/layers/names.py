"""Name layers: by their module, the call of it, the function inside it, and the path of a tensor in its output.

`conv1` is a module, `conv1#2` its second call in a forward pass, `sinc.conv1d` the function that the module `sinc`
calls, and `lstm.1.0` a tensor in the output of `lstm`. The logits are "output", as `layer.py` says.
"""

from __future__ import annotations

from collections.abc import Collection

FUNCTIONS = {name.lower(): (name.lower(), name, "_ConvNd") for name in ("Conv1d", "Conv2d", "Conv3d")} | {
    **{f"conv_transpose{n}d": (f"conv_transpose{n}d", f"ConvTranspose{n}d", "_ConvNd") for n in (1, 2, 3)},
    "linear": ("linear", "Linear"),
}
"""Functions that are layers, with the kinds that they are; `sinc.conv1d` is a call of `conv1d` in the module `sinc`."""


def name_call(layer: str, calls: dict[str, int]) -> str:
    """Name a call of a layer, and count it in `calls`.

    Examples
    --------
    >>> calls = {}
    >>> name_call("conv1", calls), name_call("conv1", calls), name_call("conv2", calls)
    ('conv1', 'conv1#2', 'conv2')
    """
    count = calls[layer] = calls.get(layer, 0) + 1
    return layer if count == 1 else f"{layer}#{count}"


def name_inside(layer: str, part: str) -> str:
    """Name a part of a layer: a function that it calls, or a tensor in its output by its path.

    Examples
    --------
    >>> name_inside("lstm", "1.0"), name_inside("conv1", ""), name_inside("", "conv1d")
    ('lstm.1.0', 'conv1', 'conv1d')
    """
    return ".".join(name for name in (layer, part) if name)


def find_owner(name: str, modules: Collection[str]) -> tuple[str, str]:
    """Split the name of a layer into its module, without the number of a call, and the path in the module's output.

    The module is empty where there is none.

    Examples
    --------
    >>> find_owner("body.lstm#2.1.0", ["body", "body.lstm"])
    ('body.lstm', '1.0')
    """
    plain = name
    if "#" in name:
        before, _, after = name.partition("#")
        plain = f"{before}.{after.partition('.')[2]}".rstrip(".")
    if plain in modules:
        return plain, ""
    parts = plain.split(".")
    for n in range(len(parts) - 1, 0, -1):
        if ".".join(parts[:n]) in modules:
            return ".".join(parts[:n]), ".".join(parts[n:])
    return "", plain


def group_paths(names: Collection[str], modules: Collection[str]) -> dict[str, list[str]]:
    """Group the names of layers by module: for each one the paths in its output that are wanted."""
    found: dict[str, dict[str, None]] = {}
    for name in names:
        module, path = find_owner(name, modules)
        if module:
            found.setdefault(module, {})[path] = None
    return {module: list(paths) for module, paths in found.items()}


def is_function_name(name: str) -> bool:
    """Tell whether a name may be that of a function inside a module.

    Examples
    --------
    >>> is_function_name("sinc.conv1d#2"), is_function_name("conv1")
    (True, False)
    """
    return name.partition("#")[0].rpartition(".")[2] in FUNCTIONS
