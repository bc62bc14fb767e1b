"""Who is let in: the person's own browser with the token, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("starlette")
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from brainmap.explore.guard import Guard

TOKEN = "the-token"
HOST = "127.0.0.1:8050"


def answer(_: Request) -> Response:
    return PlainTextResponse("in")


async def accept(socket: WebSocket) -> None:
    await socket.accept()


@pytest.fixture
def client() -> TestClient:
    routes = [Route("/", answer), Route("/api/x", answer, methods=["GET", "POST"]), WebSocketRoute("/ws", accept)]
    app = Starlette(routes=routes)
    return TestClient(Guard(app, token=TOKEN, port=8050), base_url=f"http://{HOST}")


@pytest.fixture
def inside(client: TestClient) -> TestClient:
    assert client.get(f"/?token={TOKEN}").text == "in"
    return client


def test_the_token_becomes_a_cookie_that_scripts_do_not_see_and_leaves_the_address(client: TestClient) -> None:
    found = client.get(f"/?token={TOKEN}&network=ch32&class=a%20b", follow_redirects=False)
    assert found.status_code == 303
    assert found.headers["location"] == "/?network=ch32&class=a+b"
    cookie = found.headers["set-cookie"]
    assert cookie.startswith("brainmap-explore-8050=the-token;")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert client.get("/api/x").text == "in"


@pytest.mark.parametrize("path", ["/", "/api/x", "/?token=wrong", "/?token=", "/api/x?token=the-token", "/?token=é"])
def test_without_the_token_nothing_is_answered(client: TestClient, path: str) -> None:
    found = client.get(path)
    assert found.status_code == 403
    assert found.text != "in"
    assert TOKEN not in found.text
    assert "set-cookie" not in found.headers


def test_a_wrong_cookie_is_refused(client: TestClient) -> None:
    assert client.get("/api/x", headers={"cookie": "brainmap-explore-8050=other"}).status_code == 403
    assert client.get("/api/x", headers={"cookie": "brainmap-explore-9999=the-token"}).status_code == 403
    assert client.get("/api/x", headers={"cookie": ';;="'}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example:8050"}, 403),  # a name that leads to 127.0.0.1
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": ""}, 403),
        ({"host": "localhost:9000"}, 200),  # a tunnel to another port
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8888"}, 403),  # another server on this machine
        ({"origin": "null"}, 403),
        ({"origin": f"http://{HOST}"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_host_and_origin_are_looked_at_even_with_the_cookie(
    inside: TestClient, headers: dict[str, str], status: int, method: str
) -> None:
    cookie = {"cookie": f"brainmap-explore-8050={TOKEN}"}  # a client keeps cookies by host
    assert inside.request(method, "/api/x", headers={**cookie, **headers}).status_code == status


def test_a_link_from_another_site_may_open_the_page_but_nothing_else(inside: TestClient) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert inside.get("/?network=a", headers=followed).status_code == 200
    assert inside.get("/api/x", headers=followed).status_code == 403


def test_every_answer_says_what_the_browser_may_load(inside: TestClient) -> None:
    for found in (inside.get("/"), inside.get("/", headers={"host": "evil.example"})):
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert "http" not in policy
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"


def test_web_sockets_are_refused(inside: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), inside.websocket_connect("/ws"):
        pass


def test_lifespans_are_passed_on() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["type"])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    with TestClient(Guard(app, token=TOKEN, port=1)):
        assert seen == ["lifespan.startup"]
