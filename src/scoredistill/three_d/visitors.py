"""What may come from a browser: which pages connect, and which cameras and numbers of theirs are rendered.

Every page that is open in a browser can connect to a local port and send anything. So a connection is accepted only
from the page that the viewer itself serves, and what it sends is bounded before it is rendered.
"""

import ipaddress
import math
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import numpy as np

MIN_SIZE = 16  # smallest height and width of an image in pixels
WIDEST = 4.0  # largest ratio of width and height, either way
FOV = (0.01, 3.0)  # of images, in radians
FARTHEST = 1e6  # largest coordinate of a camera
SUFFIXES = (".localhost", ".local")  # of names that no web site can have
_patching = threading.Lock()


def bounded(value: object, low: float | int, high: float | int, default: float | int) -> float | int:
    """A number of a visitor within bounds; the default if it is none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return default
    return min(max(number, low), high) if not math.isnan(number) else default


def image_size(height: int, image_width: object, image_height: object) -> tuple[int, int]:
    """(height, width) of the image for a window of a browser, which may be collapsed or far too wide.

    Args:
        height: of the image in pixels.
        image_width, image_height: of the window in pixels, as the browser says.
    """
    across, down = (bounded(side, 0, 1e9, 0) for side in (image_width, image_height))
    ratio = across / down if across and down else 1.0
    ratio = min(max(ratio, 1 / WIDEST), WIDEST)
    return height, max(MIN_SIZE, round(height * ratio))


def valid_pose(wxyz: object, position: object) -> bool:
    """Whether a quaternion and a position of a visitor are those of a camera."""
    try:
        turn, place = np.asarray(wxyz, np.float64), np.asarray(position, np.float64)
    except (TypeError, ValueError, OverflowError):
        return False
    if turn.shape != (4,) or place.shape != (3,) or not np.isfinite([*turn, *place]).all():
        return False
    return bool(1e-6 < np.abs(turn).max() < 1e6 and np.abs(place).max() <= FARTHEST)


def same_page(headers: Mapping[str, str], host: str) -> bool:
    """Whether a request comes from a page of this server, or from no page at all.

    The origin of the page must be the address that was asked, and that address must be of this computer and no name of
    a web site, which can be made to point here.

    Args:
        headers: of the request, of which Origin and Host are read.
        host: on which the server listens.
    """
    origin, asked = headers.get("Origin"), headers.get("Host", "")
    if origin is None:  # browsers always send it with a WebSocket
        return True
    try:
        here, page = urlsplit(f"//{asked}"), urlsplit(origin)
        if (page.hostname, page.port) != (here.hostname, here.port) or page.scheme not in ("http", "https"):
            return False
    except ValueError:
        return False
    name = here.hostname or ""
    if name.endswith(SUFFIXES) or name in ("localhost", host.lower(), socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@contextmanager
def only_own_pages(host: str) -> Iterator[None]:
    """Make a server of viser that is started in the block refuse the WebSockets of other pages.

    viser passes no such check to the websockets package, so the function that it calls is replaced meanwhile.
    """
    server = import_module("websockets.asyncio.server")
    with _patching:
        before = server.serve
        server.serve = partial(_serve, before, host)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            server.serve = before  # type: ignore[attr-defined]


def _serve(serve: Callable[..., Any], host: str, *args: Any, process_request: Any = None, **settings: Any) -> Any:
    def checked(connection: Any, request: Any) -> Any:
        if not same_page(request.headers, host):
            return connection.respond(403, "This viewer serves its own page only.\n")
        return None if process_request is None else process_request(connection, request)

    return serve(*args, process_request=checked, **settings)
