"""Answer the requests of the explorer's pages: the page itself, its assets, and what the computing process finds."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from brainmap import viz
from brainmap.explore.guard import Guard
from brainmap.explore.messages import COMMANDS
from brainmap.explore.uploads import MEGABYTE, TooLargeError, Uploads
from brainmap.explore.worker import SUPERSEDED, AskError, Worker
from brainmap.shipped import find_in_nilearn

ASSETS = Path(__file__).with_name("assets")
TEMPLATES = Path(viz.__file__).parent / "page" / "templates"
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_OK, _NOT_FOUND, _TOO_LARGE = 200, 404, 413


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hold the limits of sounds that a page sends: their size [MB] and their length [s]."""

    megabytes: float = 50.0
    seconds: float = 60.0


def find_niivue() -> Path | None:
    """Find the copy of NiiVue (BSD-2-Clause, https://github.com/niivue/niivue) in nilearn's wheel; None without one."""
    return find_in_nilearn("_assets/js/niivue.umd.js")


def make_app(worker: Worker, *, title: str, token: str, port: int, limits: Limits) -> Starlette:
    """Make the web application.

    Parameters
    ----------
    worker : Worker
        It is started and closed with the application.
    title : str
        Name of the study or network, for the first paint.
    token : str
    port : int
    limits : Limits
    """
    uploads = Uploads(round(limits.megabytes * MEGABYTE))
    worker.folder = str(uploads.folder)

    async def page(_: Request) -> Response:
        return HTMLResponse(_render_page(title, limits))

    async def asset(request: Request) -> Response:
        path = _find_asset(request.path_params["name"])
        if path is None:
            return Response(status_code=_NOT_FOUND)
        return FileResponse(path, media_type=KINDS[path.suffix], headers={"Cache-Control": "no-cache"})

    async def state(_: Request) -> Response:
        return JSONResponse(worker.describe() | {"address": f"/?token={token}"})

    async def ask(request: Request) -> Response:
        command = request.path_params["command"]
        if command not in COMMANDS:
            return _refuse(f"There is no {command!r}.", _NOT_FOUND)
        arguments = dict(request.query_params)
        return await _answer(worker, command, arguments, slot=arguments.pop("slot", ""))

    async def stop(request: Request) -> Response:
        number = request.query_params.get("job", "")
        found = number.isdecimal() and worker.stop(int(number))
        return JSONResponse({"stopped": bool(found)})

    async def upload(request: Request) -> Response:
        name = request.query_params.get("name", "").strip() or "sound"
        try:
            path = await uploads.receive(request)
        except TooLargeError as error:
            return _refuse(str(error), _TOO_LARGE)
        answer = await _answer(worker, "receive", {"path": str(path), "name": name, "seconds": str(limits.seconds)})
        if answer.status_code == _OK:
            worker.remember_upload(str(path), name)
        else:
            path.unlink(missing_ok=True)
        return answer

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker.start()
        try:
            yield
        finally:
            await worker.close()
            uploads.close()

    routes = [
        Route("/", page),
        Route("/assets/{name}", asset),
        Route("/api/state", state),
        Route("/api/stop", stop, methods=["POST"]),
        Route("/api/upload", upload, methods=["POST"]),
        Route("/api/{command}", ask),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.add_middleware(Guard, token=token, port=port)
    return app


async def _answer(worker: Worker, command: str, arguments: Mapping[str, Any], *, slot: str = "") -> Response:
    try:
        body, media = await worker.ask(command, arguments, slot=slot)
    except AskError as error:
        return Response(status_code=SUPERSEDED) if error.status == SUPERSEDED else _refuse(str(error), error.status)
    return Response(body, media_type=media)


def _refuse(words: str, status: int) -> Response:
    return JSONResponse({"error": words}, status_code=status)


def _find_asset(name: str) -> Path | None:
    if name == "niivue.js":
        return find_niivue()
    if name == "mesh.js":
        return TEMPLATES / name  # the page of a study draws meshes with it, too
    path = ASSETS / name
    return path if path.parent == ASSETS and path.suffix in KINDS and path.is_file() else None


def _render_page(title: str, limits: Limits) -> str:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ASSETS), autoescape=True)
    environment.undefined = jinja2.StrictUndefined
    return environment.get_template("page.html").render(title=title, limits=limits)
