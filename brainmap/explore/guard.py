"""Let only the person who started the server in: Host, Origin and token of every request are looked at.

A page of another site could have the browser call this server. It fails at the `Host` where its own name leads to
127.0.0.1, at the `Origin` and `Sec-Fetch-Site` that browsers send, and for want of the cookie.
"""

from __future__ import annotations

import html
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = ("127.0.0.1", "localhost")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; "
    "connect-src 'self' blob: data:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_SAFE = ("GET", "HEAD")


class Guard:
    """Refuse every request that does not come from the person's own browser.

    Parameters
    ----------
    app : ASGI application
    token : str
        The secret in the first address; it becomes a cookie.
    port : int
        Port of the server, in the name of the cookie: cookies of one host are shared by all of its ports.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self.app, self.token, self.cookie = app, token, f"brainmap-explore-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refuse(scope) or self._welcome(scope)
        await (answer or self.app)(scope, receive, send_guarded)

    def _refuse(self, scope: Scope) -> Response | None:
        """Return the refusal of a request that comes from elsewhere."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in NAMES and host not in NAMES:
            return _say("This address leads to another computer’s explorer. Open the address that the terminal shows.")
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return _say("Another site asked for this; the explorer answers its own pages only.")
        site = headers.get("sec-fetch-site", "same-origin")
        followed_link = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in _SAFE
        if site not in ("same-origin", "none") and not (followed_link and scope["path"] == "/"):
            return _say("Another site asked for this; the explorer answers its own pages only.")
        return None

    def _welcome(self, scope: Scope) -> Response | None:
        """Turn the token of the first address into a cookie; return the refusal of a request without either."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if given and scope["path"] == "/":
            if not _is_same(given[0], self.token):
                return _say("This token is not that of the running explorer. Open the address that the terminal shows.")
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            answer = RedirectResponse(f"/?{rest}" if rest else "/", status_code=303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="lax", path="/")
            return answer
        if _is_same(_read_cookie(Headers(scope=scope), self.cookie), self.token):
            return None
        return _say("The explorer opens with its token. Open the address that the terminal shows.")


def _is_same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


def _read_cookie(headers: Headers, name: str) -> str:
    for line in headers.getlist("cookie"):
        try:
            found = SimpleCookie(line).get(name)
        except CookieError:
            continue
        if found is not None:
            return found.value
    return ""


def _say(words: str) -> Response:
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>brainmap explore</title><p>{html.escape(words)}"
    return HTMLResponse(page, status_code=403)
