"""Run a network on sounds: in batches, in eval mode, with batches side by side, and with one-line errors.

Find out why a network refuses a sound: which module refuses it, and from which length on it would not.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

from brainmap.checks import count_threads
from brainmap.errors import InputError, RunError
from brainmap.references import first_line
from brainmap.threads import limit_blas

_DOUBLINGS = 10
_LONGEST = 1 << 19  # samples; about half a minute at 16 kHz


def find_shortest_accepted(model: nn.Module, batch: Tensor) -> tuple[str, int] | None:
    """Find the module that refuses a batch because it is too short, and the length from which on it does not.

    Parameters
    ----------
    model : torch.nn.Module
    batch : Tensor (n, c, t) or (n, c, h, w)
        Input that the model refuses; its last axis is time.

    Returns
    -------
    tuple of (str, int), or None
        Dotted name of the innermost module that fails, and a length t that the model accepts while it refuses t - 1;
        None where longer input is refused as well, as by a network that takes one length.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 5), nn.Conv1d(2, 2, 7))
    >>> find_shortest_accepted(net, torch.zeros(1, 1, 8))
    ('1', 11)
    """
    first = batch[:1]
    refused = first.shape[-1]
    name = _find_failing_module(model, first)
    if name is None:
        return None
    accepted = 0
    for doubling in range(1, _DOUBLINGS + 1):
        length = first.shape[-1] << doubling
        if length > _LONGEST:
            return None
        if _find_failing_module(model, _resize_batch(first, length)) is None:
            accepted = length
            break
        refused = length
    if not accepted:
        return None
    while accepted - refused > 1:
        between = (accepted + refused) // 2
        if _find_failing_module(model, _resize_batch(first, between)) is None:
            accepted = between
        else:
            refused = between
    return name, accepted


def _resize_batch(batch: Tensor, length: int) -> Tensor:
    return batch.new_zeros((*batch.shape[:-1], length))


def _find_failing_module(model: nn.Module, batch: Tensor) -> str | None:
    """Return the dotted name of the innermost module that fails on a batch; None where none does."""
    entered: list[str] = []  # the modules that are running; after an error the last one is the innermost

    def leave(*_: Any) -> None:
        entered.pop()

    modules = dict(model.named_modules())
    entering = watch_modules(modules, before=lambda name, *_: entered.append(name), after=leave)
    with entering, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model(batch.clone())
        except Exception:  # a network of others may fail in any way
            return entered[-1] if entered else ""
    return None


@contextmanager
def watch_modules(
    modules: Mapping[str, nn.Module],
    *,
    before: Callable[[str, nn.Module, Any], None] | None = None,
    after: Callable[[str, nn.Module, Any, Any], None] | None = None,
) -> Iterator[None]:
    """Call `before(name, module, args)` where a module begins, and `after(name, module, args, output)` where it ends.

    Examples
    --------
    >>> net, begun = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()), []
    >>> with watch_modules(dict(net.named_children()), before=lambda name, *_: begun.append(name)):
    ...     found = net(torch.zeros(1, 1, 8))
    >>> begun
    ['0', '1']
    """
    with ExitStack() as stack:
        for name, module in modules.items():
            if before is not None:
                stack.callback(module.register_forward_pre_hook(functools.partial(before, name)).remove)
            if after is not None:
                stack.callback(module.register_forward_hook(functools.partial(after, name)).remove)
        yield


def _find_leaves(model: nn.Module) -> dict[str, nn.Module]:
    """Find the modules that hold no others."""
    return {name: module for name, module in model.named_modules() if next(module.children(), None) is None}


T = TypeVar("T")
R = TypeVar("R")
Own = TypeVar("Own")
Advance: TypeAlias = Callable[[int], None]


def count_workers(device: str, threads: int | None, what: str) -> int:
    """Return how many batches run side by side; it is one on a device that computes in parallel by itself."""
    wanted = count_threads(threads, what)
    return wanted if torch.device(device).type == "cpu" else 1


def get_device(model: nn.Module) -> torch.device:
    """Return the device that holds the weights."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def check_device(device: torch.device | str) -> None:
    """Raise an `InputError` where this machine lacks the device."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device: {str(device)!r} cannot be used here ({first_line(error)}); try 'cpu'") from error


@contextmanager
def evaluating(model: nn.Module, device: torch.device | str | None = None) -> Iterator[None]:
    """Put the model in eval mode on `device`, and restore the device and the mode of each submodule afterwards.

    Convolutions on a GPU keep the precision of float32, so that results agree with those of the CPU but for rounding.
    BLAS has one thread within the block: after an operation of torch its threads spin for a while, and those of numpy's
    BLAS would wait for the cores that they hold.

    Raises
    ------
    InputError
        A device that this machine does not have.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise InputError(
            "network: is scripted (TorchScript), and nothing within it can be listened to; give the plain "
            "module, or export it with torch.export"
        )
    flags = [(module, module.training) for module in model.modules()]
    home = get_device(model)
    if device is not None:
        check_device(device)
    try:
        model.eval()
        if device is not None and torch.device(device) != home:
            model.to(device)
        with _own_precision(model), _whole_float32(), limit_blas():
            yield
    finally:
        if device is not None and torch.device(device) != home:
            model.to(home)
        for module, flag in flags:
            module.training = flag


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Keep all 24 bits of float32 in convolutions on a GPU, which torch cuts to 11 by default (TF32)."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def _own_precision(model: nn.Module) -> Iterator[None]:
    """Feed a network of float64, float16 or bfloat16 its own precision; outputs below float32 come back as float32."""
    own = next((p.dtype for p in (*model.parameters(), *model.buffers()) if p.is_floating_point()), torch.float32)
    if own == torch.float32:
        yield
        return

    def feed(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(  # a conversion that changes nothing would still be an operation between the sound and the network
            one.to(own) if isinstance(one, Tensor) and one.is_floating_point() and one.dtype != own else one
            for one in given
        )

    def widen(_: nn.Module, __: Any, out: Any) -> Any:
        narrow = isinstance(out, Tensor) and out.dtype in (torch.float16, torch.bfloat16)
        return out.float() if narrow else out

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(feed).remove)
        stack.callback(model.register_forward_hook(widen).remove)
        yield


@contextmanager
def use_one_thread() -> Iterator[None]:
    """Restrict torch to one thread within the block, and restore the number of threads afterwards.

    The split of an operation into threads decides the order in which torch adds numbers up, and so their last bits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_side_by_side(
    work: Callable[[Own, T, Advance], R],
    own: Own,
    items: Iterable[T],
    *,
    modules: Sequence[nn.Module],
    threads: int,
    advance: Advance,
) -> Iterator[R]:
    """Work on items side by side, each on one torch thread, so that no result depends on the number of threads.

    Parameters
    ----------
    work : callable
        It takes the copy of `own` that belongs to its thread, an item, and a callback for its progress.
    own : object
        The object that holds the modules. Each thread has a copy, since a module may store state of a forward pass; the
        weights are shared. An object that cannot be copied is used by one thread.
    items : iterable
        At most `threads` items more than were asked for are taken.
    modules : sequence of torch.nn.Module
        Modules in `own`.
    threads : int
    advance : callable
        It is called with the number of steps taken, by one thread at a time.

    Yields
    ------
    object
        The results, in the order of the items.

    Examples
    --------
    >>> net = nn.Linear(1, 1)
    >>> def add(net, x, advance):
    ...     return x + len(list(net.parameters()))
    >>> list(run_side_by_side(add, net, range(4), modules=[net], threads=2, advance=print))
    [2, 3, 4, 5]
    """
    with use_one_thread():
        owned = [own, *(_copy_modules(own, modules, threads - 1) if threads > 1 else ())]
        if len(owned) == 1:
            yield from (work(own, item, advance) for item in items)
            return
        free: SimpleQueue[Own] = SimpleQueue()
        for one in owned:
            free.put(one)
        lock, ended = Lock(), Event()

        def told(steps: int) -> None:
            if ended.is_set():  # another thread failed, or the user interrupted the run
                raise CancelledError
            with lock:
                advance(steps)

        def call(item: T) -> R:
            mine = free.get()
            try:
                return work(mine, item, told)
            finally:
                free.put(mine)

        pool = ThreadPoolExecutor(len(owned), initializer=torch.set_num_threads, initargs=(1,))
        running: deque[Future[R]] = deque()
        try:
            for item in items:
                running.append(pool.submit(call, item))
                if len(running) > len(owned):
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            ended.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _copy_modules(own: Own, modules: Sequence[nn.Module], count: int) -> list[Own]:
    """Copy an object and share its weights; the list is empty where something cannot be copied."""
    shared = {id(t): t for module in modules for t in (*module.parameters(), *module.buffers())}
    try:
        return [copy.deepcopy(own, dict(shared)) for _ in range(count)]
    except Exception:  # a user's module may hold an open file, a lock, or a tensor that is part of a graph
        return []


def forward(model: nn.Module, batch: Tensor) -> Tensor:
    """Run a batch through a model, and turn torch's message about a misfitting input into one line."""
    try:
        return cast(Tensor, model(batch))
    except SystemExit:
        raise InputError("network: its code ends the program (sys.exit) where it should give logits") from None
    except (RuntimeError, ValueError, IndexError) as error:
        if "out of memory" in str(error) or "allocate memory" in str(error):
            raise RunError(f"network: {first_line(error)}; give a smaller batch_size") from error
        why = explain_refusal(model, batch) or f"{first_line(error)}{_explain_short_input(model, batch)}"
        raise InputError(f"network: refuses sounds of shape {tuple(batch.shape[1:])}: {why}") from error


def _explain_short_input(model: nn.Module, batch: Tensor) -> str:
    """Say which module needs longer sounds than a batch that was refused, and how long they must be, if that is why."""
    found = find_shortest_accepted(model, batch)
    if found is None:
        return ""
    name, length = found
    unit = "samples" if batch.ndim == 3 else "frames"
    return (
        f"; {f'layer {name!r}' if name else 'the network'} needs more: expected at least {length} {unit}, got "
        f"{batch.shape[-1]}; give longer sounds or a longer window"
    )


_SIZES = {"in_features": -1, "in_channels": 1, "num_features": 1}  # what a module wants, and along which axis


def explain_refusal(model: nn.Module, batch: Tensor) -> str:
    """Say which module refuses its input, and what size it wants; the text is empty where this is not known.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(10, 2))
    >>> explain_refusal(net, torch.zeros(1, 1, 8))
    "module '2' (Linear) expects 10 values along its last axis, got 12"
    """
    if _takes_no_channels(model, batch):
        return (
            "it takes (n, samples), and is given (n, 1, samples); let its builder return a subclass whose forward is "
            "`def forward(self, x): return super().forward(x[:, 0])`"
        )
    reached: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def note(name: str, module: nn.Module, given: Any) -> None:
        if given and isinstance(given[0], Tensor):
            reached.append((name, module, tuple(given[0].shape)))

    with watch_modules(_find_leaves(model), before=note), torch.no_grad(), suppress(Exception):
        model(batch)
        reached.clear()  # it does not refuse
    name, module, shape = reached[-1] if reached else ("", model, ())
    for size, axis in _SIZES.items():
        wanted = getattr(module, size, None)
        if isinstance(wanted, int) and len(shape) > 1 and shape[axis] != wanted:
            along = "its last axis" if axis == -1 else "its axis of channels"
            return f"module {name!r} ({type(module).__name__}) expects {wanted} values along {along}, got {shape[axis]}"
    return ""


def _takes_no_channels(model: nn.Module, batch: Tensor) -> bool:
    """Tell whether a model that refuses waveforms `(n, 1, t)` takes them as `(n, t)`."""
    if batch.ndim != 3 or batch.shape[1] != 1:
        return False
    with suppress(Exception), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        given = model(batch[:1, 0].expand(2, -1).clone())
        return isinstance(given, Tensor) and len(given) == 2
    return False


def list_modules(model: nn.Module, batch: Tensor) -> tuple[str, ...]:
    """List the modules below a model that give a tensor for a batch, in the order in which they end.

    Examples
    --------
    >>> list_modules(nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()).eval(), torch.zeros(1, 1, 8))
    ('0', '1')
    """
    ended: dict[str, None] = {}

    def note(name: str, _: nn.Module, __: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            ended[name] = None

    below = {name: module for name, module in model.named_modules() if name}
    with watch_modules(below, after=note), torch.no_grad():
        forward(model, batch.clone())
    return tuple(ended)


def find_broken_module(model: nn.Module, batch: Tensor) -> str | None:
    """Find the first module without children whose output is not finite for a batch.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()).eval()
    >>> find_broken_module(net, torch.full((1, 1, 8), torch.inf))
    '0'
    """
    broken: list[str] = []

    def note(name: str, _: nn.Module, __: Any, out: Any) -> None:
        if isinstance(out, Tensor) and not out.isfinite().all():
            broken.append(name)

    with watch_modules(_find_leaves(model), after=note), torch.no_grad():
        forward(model, batch.clone())
    return broken[0] if broken else None
