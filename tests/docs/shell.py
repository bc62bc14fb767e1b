"""bash in which `brainmap` costs what it computes: a fork of one process that has imported everything.

Whole lines of the documents are typed as they stand, with their loops, patterns and pipes. What would install, build or
queue something (`pip`, `make`, `sbatch`) is a program that checks what it is asked for; `sbatch` runs the tasks here.
The file is also the process that it starts, and its own client.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 1500  # [s] after which lines hang
HEAVY = ("torch", "nilearn.plotting", "librosa.feature", "himalaya.ridge", "sklearn.decomposition")

CLIENT = """\
#!{python} -IS
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({place!r})
question = json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]).encode()
socket.send_fds(connection, [len(question).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(question)
code = connection.recv(1)
os._exit(code[0] if code else 1)
"""

PIP = """\
#!/bin/bash
# `pip install .` and extras of brainmap: they must be those of pyproject.toml.
[ "$1" = install ] || {{ echo "pip: nobody types pip $1 here" >&2; exit 1; }}
[ "$2" = . ] && exit 0
extra=$(sed -nE 's/^brainmap\\[([a-z]+)\\]$/\\1/p' <<< "$2")
[ -n "$extra" ] && grep -qE "^$extra = \\[" {root}/pyproject.toml || {{ echo "pip: no extra in $2" >&2; exit 1; }}
"""

MAKE = """\
#!/bin/bash
# The target must be there; nothing is built.
exec {make} --dry-run -C {root} "$@" >/dev/null
"""

SBATCH = """\
#!/bin/bash
# The tasks of a job one after the other, in the folder in which it was queued, as SLURM runs them.
job=""
while [ $# -gt 0 ]; do
    case "$1" in
        --wrap) echo "$2" > wrapped.sh; job=wrapped.sh; shift 2 ;;
        --*) shift ;;
        *) job=$1; shift ;;
    esac
done
tasks=$(sed -nE 's/^#SBATCH --array=([0-9]+)-([0-9]+)$/\\1 \\2/p' "$job")
cpus=$(sed -nE 's/^#SBATCH --cpus-per-task=([0-9]+)$/\\1/p' "$job")
for task in $(seq ${{tasks:-1 1}}); do
    SLURM_ARRAY_TASK_ID=$task SLURM_CPUS_PER_TASK=${{cpus:-1}} bash -e "$job" >&2 || exit 1
done
echo 17
"""


@dataclass(frozen=True)
class Shell:
    """The programs that lines find before all others."""

    programs: Path

    def run(self, lines: Sequence[str], folder: Path) -> list[str]:
        """Type lines into one shell, which stops at the first that fails; return what went wrong."""
        script = "\n".join(["set -eo pipefail", "trap 'echo \"this failed: $BASH_COMMAND\"' ERR", *lines])
        env = {
            **os.environ,
            "PATH": os.pathsep.join([str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
            "MPLBACKEND": "agg",
        }
        with tempfile.TemporaryFile("w+") as said:  # a pipe would be kept open by what runs behind
            shell = subprocess.Popen(
                ["bash", "-c", script], cwd=folder, env=env, stdout=said, stderr=said, start_new_session=True
            )
            try:
                code = shell.wait(LONGEST)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)  # with what it left in the background
            said.seek(0)
            return [] if code == 0 else [*lines, f"exit code {code}", said.read()[-4000:]]


@contextmanager
def open_shell() -> Iterator[Shell]:
    """Start the process, and write the programs."""
    home = Path(tempfile.mkdtemp(prefix="shell"))  # the address of a socket may have some hundred letters
    place = str(home / "socket")
    texts = {
        "brainmap": CLIENT.format(python=sys.executable, place=place),
        "pip": PIP.format(root=ROOT),
        "make": MAKE.format(root=ROOT, make=shutil.which("make")),
        "sbatch": SBATCH.format(),
    }
    (home / "programs").mkdir()
    for name, text in texts.items():
        file = home / "programs" / name
        file.write_text(text)
        file.chmod(0o700)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    server = subprocess.Popen(
        [sys.executable, __file__, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == "ready\n"
        yield Shell(home / "programs")
    finally:
        server.stdin.close()
        server.stdout.close()
        server.wait()
        shutil.rmtree(home)


def become(connection: socket.socket) -> None:
    """Run the command that a client names, with its folder, its variables and its files; never return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 1
    try:
        head, files, _, _ = socket.recv_fds(connection, 8, 3)
        length, question = int.from_bytes(head, "big"), b""
        while len(question) < length:
            question += connection.recv(1 << 16)
        folder, words, variables = json.loads(question)
        for there, here in enumerate(files):
            os.dup2(here, there)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        sys.path[:0] = variables.get("PYTHONPATH", "").split(os.pathsep)
        sys.argv = ["brainmap", *words]
        code = run_command()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([code]))
        os._exit(code)


def run_command() -> int:
    """Run a command here, with what it has to do at its end."""
    import atexit

    from brainmap.cli import main

    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        atexit._run_exitfuncs()
    return 0


def import_everything() -> None:
    """Import every module of brainmap, and what they import when they need it."""
    import brainmap

    for found in pkgutil.walk_packages(brainmap.__path__, "brainmap."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for name in HEAVY:
        importlib.import_module(name)


def serve(place: str) -> None:
    """Import, then fork a child for each client, until whoever started the process is gone."""
    answers: Any = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        print("ready", file=answers, flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                become(connection)
            connection.close()


if __name__ == "__main__":
    serve(sys.argv[1])
