"""Compute the pieces of a study on Dask workers, with a task per piece and one preparation per participant.

The piece of a worker that dies goes to another one; a piece that kills several is refused in one line.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import pickle
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from brainmap.checks import count_threads
from brainmap.errors import BrainmapError, BrainmapWarning, InputError, RunError
from brainmap.progress import log, progress
from brainmap.record import versions
from brainmap.rsa.images.files import get_grid_tolerance
from brainmap.study.parallel.worker import prepare_piece_data, score_piece
from brainmap.study.results.context import Context
from brainmap.study.results.pieces import Piece, Scored, Work, list_lacking, save_piece

ANSWER = 8.0  # time limit [s] for an answer of a scheduler
WAITING = 15.0  # time [s] between two lines that report that no worker has come yet
_START = "dask scheduler --host 127.0.0.1"


def compute_on_dask(context: Context, work: Sequence[tuple[Work, Sequence[Piece]]], *, share: str = "") -> None:
    """Compute the missing pieces of participants on Dask workers, and write each as it arrives.

    Workers see the same files as this process. Without the address of a scheduler, workers are started on this machine.
    When a worker dies, another one computes its tasks again.

    Raises
    ------
    InputError
        Dask is not installed; no scheduler answers; workers have other versions of packages that affect the numbers.
    RunError
        A piece kills every worker that computes it; the connection to the scheduler is lost.
    """
    wanted = [(one, list_lacking(pieces)) for one, pieces in work]
    n_wanted = sum(piece.size for _, pieces in wanted for piece in pieces)
    if not n_wanted:
        return
    total = sum(piece.size for _, pieces in work for piece in pieces)
    with connect_dask(context.scheduler, workers=context.threads) as client:
        running = _submit_pieces(client, wanted)
        job = next(pieces[0].job for _, pieces in wanted if pieces)
        with progress(job, total, done=total - n_wanted) as shown:
            for piece, scored in _yield_arriving(client, running):
                save_piece(piece, scored, share=share)
                shown.advance(piece.size)


def _submit_pieces(client: Any, work: Sequence[tuple[Work, Sequence[Piece]]]) -> dict[Any, Piece]:
    """Send pieces to workers, and return their futures."""
    mine, running = versions(), {}
    call = uuid4().hex  # an error that a scheduler remembers from another call does not count for this one
    for one, pieces in work:
        if pieces:
            # This is a task rather than data sent from here, so that Dask makes it again when the worker that holds it
            # dies. It is pickled to bytes, because the scheduler would otherwise open it and import packages that only
            # workers need.
            sent, key = pickle.dumps(one.to_send()), f"plan-{pieces[0].what}-{pieces[0].key[:12]}-{call}"
            plan = client.submit(prepare_piece_data, sent, mine, get_grid_tolerance(), key=key, pure=False)
            for piece in pieces:
                key = f"piece-{piece.what}-{piece.key[:12]}-{piece.start}-{call}"
                running[client.submit(score_piece, plan, piece.start, piece.stop, mine, key=key, pure=False)] = piece
    return running


def _yield_arriving(client: Any, running: dict[Any, Piece]) -> Iterator[tuple[Piece, Scored]]:
    """Yield pieces with their scores as they arrive, and report each warning of the workers once."""
    from distributed import as_completed

    said: set[str] = set()
    for future in as_completed(list(running), loop=client.loop):
        piece = running.pop(future)
        scored, notes = _read_result(future, piece)
        yield piece, scored
        future.release()
        for note in set(notes) - said:
            said.add(note)
            warnings.warn(note, BrainmapWarning, stacklevel=2)


def _read_result(future: Any, piece: Piece) -> tuple[Scored, list[str]]:
    """Return a piece's scores, or raise an error that says in one line why there are none."""
    from distributed import KilledWorker

    kept = "finished pieces are kept, and the same command computes the others"
    if future.status not in ("finished", "error"):
        raise RunError(f"{piece.job}: the Dask scheduler does not answer any more ({future.status}); {kept}")
    if future.status == "finished":
        found: tuple[Scored, list[str]] = future.result()
        return found
    error = future.exception()
    if isinstance(error, BrainmapError):
        raise error
    if isinstance(error, KilledWorker):
        raise RunError(
            f"{piece.job}: {piece} killed the {error.allowed_failures + 1} workers that tried it, perhaps for lack of "
            f"memory; start workers with more (dask worker --memory-limit), or fewer at a time; {kept}"
        )
    said = next(iter(str(error).splitlines()), "")
    raise RunError(f"{piece.job}: {piece} failed on a worker: {type(error).__name__}: {said}; {kept}")


@contextmanager
def connect_dask(address: str | None, *, workers: int | None = None) -> Iterator[Any]:
    """Connect to the scheduler at an address, or start `workers` processes on this machine, bound to 127.0.0.1.

    Raises
    ------
    InputError
        Dask is not installed, the address is not valid, or no scheduler answers in time.
    """
    try:
        import distributed
    except ImportError:
        raise InputError("--backend dask: Dask is not installed; pip install 'brainmap[cluster]'") from None
    with _silence_log():
        if address is None:
            with (
                distributed.LocalCluster(
                    n_workers=count_threads(workers, "--jobs"),
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                ) as cluster,
                distributed.Client(cluster, set_as_default=False) as client,
            ):
                yield client
        else:
            with _open_client(address) as client:
                _wait_for_workers(client, address)
                yield client


@contextmanager
def _silence_log() -> Iterator[None]:
    """Silence Dask's own log, whose relevant content brainmap reports in one line."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in ("distributed", "tornado")]
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _open_client(address: str) -> Any:
    import distributed

    warn_of_strangers(address)
    try:
        # A client that fails to connect logs another error when it is deleted, so the address is tested before.
        asyncio.run(asyncio.wait_for(_read_identity(address), ANSWER))
    except (ValueError, TypeError, RuntimeError) as error:
        hint = "; TLS takes its certificates from Dask's configuration (distributed.comm.tls)"
        why = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"--dask-scheduler: {address}: {why}{hint if address.startswith('tls:') else ''}") from None
    except OSError:  # also when the time is over
        raise InputError(
            f"--dask-scheduler: {address}: nothing answers within {ANSWER:g} s; is it running? Start one: {_START}"
        ) from None
    except Exception as error:  # another kind of server may answer anything
        raise InputError(
            f"--dask-scheduler: expected a Dask scheduler at {address}, got another program ({type(error).__name__})"
        ) from None
    return distributed.Client(address, set_as_default=False)


async def _read_identity(address: str) -> None:
    """Ask who is there.

    Raises
    ------
    ValueError
        Somebody else.
    """
    from distributed.core import rpc
    from distributed.security import Security

    async with rpc(address, connection_args=Security().get_connection_args("client")) as other:
        found = await other.identity()
        if found.get("type") != "Scheduler":
            raise ValueError(f"expected the scheduler, got a Dask {str(found.get('type')).lower()}")


def _wait_for_workers(client: Any, address: str) -> None:
    """Wait for the first worker, which may stay in a cluster's queue for a long time."""
    while True:
        try:
            client.wait_for_workers(1, timeout=WAITING)
        except TimeoutError:
            log.info("dask: no worker has joined %s yet; start some: dask worker %s", address, address)
        else:
            return


def warn_of_strangers(address: str) -> None:
    """Warn where anybody who reaches a scheduler can run code: at a network address without TLS.

    Examples
    --------
    >>> warn_of_strangers("tcp://127.0.0.1:8786"), warn_of_strangers("tls://node7:8786")
    (None, None)
    """
    scheme, _, place = address.rpartition("://")
    host = re.sub(r":\d*$", "", place).strip("[]")
    if scheme in ("tls", "wss", "inproc") or host in ("localhost", ""):
        return
    try:
        safe = ipaddress.ip_address(host).is_loopback
    except ValueError:
        safe = False
    if not safe:
        warnings.warn(
            f"--dask-scheduler {address} is reached over the network without TLS: whoever reaches this port can run "
            f"programs as you. Use tls://, or on one machine {_START}",
            BrainmapWarning,
            stacklevel=2,
        )
