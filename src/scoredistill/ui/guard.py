"""What the server answers: only its own page, only files of the runs, and nothing that the page asks of others.

Any page that is open in a browser can send requests to a local port. They are refused unless they come from the app's
own page at an address of this computer. The browser is told to load nothing from elsewhere, and reports, which are
HTML files of run directories, get no access to the app.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from scoredistill.three_d.visitors import same_page

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

OWN = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'"
SANDBOX = "sandbox allow-scripts; default-src 'unsafe-inline' data: blob:"
API = "/gradio_api/"
FILE = re.compile("/file[=/]")  # both routes that send files
# The other routes of gradio's interface that the page uses.
ANSWERED = frozenset((
    "api", "app_id", "call", "cancel", "component_server", "heartbeat", "info", "login_check", "queue", "reset", "run",
    "startup-events", "theme.css", "token", "upload", "upload_progress", "user",
))  # fmt: skip


class Guard:
    """ASGI middleware.

    Args:
        app: the app behind it.
        host: on which the server listens.
        roots: directories whose files may be sent.
    """

    def __init__(self, app: Any, host: str, roots: Sequence[Path]):
        self.app, self.host = app, host
        self.roots = [root.resolve() for root in roots]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the page uses none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = unquote(scope["path"])
        is_file = FILE.search(path)
        known = self._inside(path[is_file.end() :]) if is_file else _answered(path)
        if not (known and self._own(scope)):
            await _refuse(send)
            return
        policy = (SANDBOX if is_file else OWN).encode()
        headers = [(b"content-security-policy", policy), (b"x-content-type-options", b"nosniff"),
                   (b"referrer-policy", b"no-referrer")]  # fmt: skip

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            await send(message)

        await self.app(scope, receive, sent)

    def _own(self, scope: Scope) -> bool:
        """Whether a request comes from the app's own page, or from no page, at an address of this computer."""
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = given.get("host", "")
        return same_page({"Host": host, "Origin": given.get("origin", f"http://{host}")}, self.host)

    def _inside(self, wanted: str) -> bool:
        """Whether a file lies in one of the directories, links followed; addresses, which gradio fetches, do not."""
        if wanted.lower().lstrip("/").startswith(("http:", "https:")):
            return False
        try:
            path = Path(wanted).resolve()
        except (OSError, ValueError):
            return False
        return any(root in path.parents for root in self.roots)


def _answered(path: str) -> bool:
    """Whether the page needs a route that sends no files of runs."""
    _, is_interface, route = path.partition(API)
    return "/proxy=" not in path and (not is_interface or route.partition("/")[0] in ANSWERED)


async def _refuse(send: Send) -> None:
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"This app serves its own page and its runs only.\n"})
