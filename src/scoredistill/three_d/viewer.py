r"""A page in the browser that shows a thing while it is optimized, from where each reader looks (viser).

Images are drawn by the thread that optimizes, inside `Viewer.update`, so parameters never change under a renderer and
a GPU is asked by one thread. Readers therefore wait for the end of a step. While their cameras move, images are small
and come after each step; those of a camera at rest take at most a given share of the time. Without a reader nothing is
drawn.

    viewer = Viewer(scene.render)
    for step in range(steps):
        ...
        viewer.update({"step": step, "loss": loss})
    viewer.serve()                                  # the finished thing, until the process is stopped

Cameras of viser are those of OpenCV: x right, y down, looking along +z, with the pose as a quaternion (w, x, y, z) from
camera to world and the vertical field of view in radians. With R their rotation, ours is R diag(1, -1, -1).
"""

import io
import math
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.media.images import to_pil
from scoredistill.three_d.camera import Cameras, around
from scoredistill.three_d.turntable import MODES, Render, look, shown

RESTS = 0.3  # seconds after which a camera counts as still
QUARTER = 4  # a moving camera gets 1/4 of the pixels in each direction
LEAST = 16  # pixels of a side of an image
PAUSE = 0.02  # seconds between looks at the readers while nothing else is done


@dataclass
class Reader:
    """What one page was shown last, and when."""

    state: tuple[Any, ...] = ()
    image: Image.Image | None = field(default=None, repr=False)


class Viewer:
    """A live page at `url`; close it with `close`, or use it in a `with` statement.

    Args:
        render: cameras -> rgb, opacity, depth and normal, as for `turntable`.
        port: of the page.
        host: "127.0.0.1" serves this computer alone; "0.0.0.0" everyone who can reach it.
        title: above the controls.
        resolution: height of images in pixels when a camera rests; the page has a slider for it.
        share: of the time, at most, in which `update` draws for cameras at rest.
        device: where the renderer wants its cameras.

    Raises:
        ValueError: the port is taken or not allowed, or viser is missing.
    """

    def __init__(
        self,
        render: Render,
        port: int = 8080,
        host: str = "127.0.0.1",
        title: str = "scoredistill",
        resolution: int = 256,
        share: float | int = 0.2,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], not {share}")
        if resolution < LEAST:
            raise ValueError(f"resolution must be at least {LEAST} pixels, not {resolution}")
        viser = _viser()
        _check_free(host, port)
        self.render, self.share, self.device = render, share, device
        self.server = viser.ViserServer(host=host, port=port, label=title, verbose=False)
        if self.server.get_port() != port:  # taken between the look and now
            self.server.stop()
            raise ValueError(_taken(port))
        self.url = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}"
        self._readers: dict[int, Reader] = {}
        self._version, self._rest_until, self._told = 0, 0.0, -math.inf
        self._closed = False
        self._start_view()
        self._controls(resolution)

    def _start_view(self) -> None:
        """From the front, a little above."""
        first = around(torch.tensor([0.0]), 15.0)
        self.server.scene.set_up_direction("+z")
        self.server.scene.world_axes.visible = False
        camera = self.server.initial_camera
        camera.position, camera.look_at = tuple(first.eyes[0].tolist()), (0.0, 0.0, 0.0)
        camera.fov = math.radians(40.0)

    def _controls(self, resolution: int) -> None:
        gui = self.server.gui
        gui.configure_theme(show_share_button=False, show_logo=False)  # sharing would go through a server of others
        self._status = gui.add_markdown("waiting for the first step")
        self._mode = gui.add_dropdown("mode", MODES)
        self._resolution = gui.add_slider("pixels", min(64, resolution), max(1024, resolution), 8, resolution)
        self._pause = gui.add_checkbox("pause", False)
        save = gui.add_button("save image")

        @save.on_click
        def _(event: Any) -> None:
            reader = self._readers.get(event.client_id)
            if reader is not None and reader.image is not None:
                file = io.BytesIO()
                reader.image.save(file, format="PNG")
                event.client.send_file_download("image.png", file.getvalue())

    @property
    def paused(self) -> bool:
        """Whether a reader has ticked pause; without readers nothing is paused."""
        return not self._closed and bool(self._pause.value) and bool(self.server.get_clients())

    def update(self, info: Mapping[str, object] | None = None) -> None:
        """Tell of a step that has been made, and draw for those who look; while a reader pauses, stay here and draw.

        Args:
            info: what the page says of the step, by name.
        """
        if self._closed:
            return
        self._version += 1
        if not self.server.get_clients():
            self._readers.clear()
            self._tell(info, least=1.0)
            return
        self._tell(info)
        self._draw_if_due()
        while self.paused:
            self._draw()
            time.sleep(PAUSE)

    def serve(self, seconds: float | int = math.inf) -> None:
        """Draw what readers look at, without new steps, for some time or until the viewer is closed."""
        end = time.monotonic() + seconds
        while not self._closed and time.monotonic() < end:
            self._draw()
            time.sleep(PAUSE)

    def close(self) -> None:
        """Stop the page; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self.server.stop()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _tell(self, info: Mapping[str, object] | None, least: float = 0.2) -> None:
        """Write the line of a step, not more often than every `least` seconds."""
        now = time.monotonic()
        if info and now - self._told >= least:
            self._told = now
            self._status.content = "  \n".join(f"**{key}** {_short(value)}" for key, value in info.items())

    def _draw_if_due(self) -> None:
        """Draw if that keeps to the share of the time, or for those who move."""
        start = time.monotonic()
        resting = start < self._rest_until
        if self._draw(only_moving=resting) and not resting:
            end = time.monotonic()
            self._rest_until = end + (end - start) * (1 / self.share - 1)

    def _draw(self, only_moving: bool = False) -> bool:
        """Draw for each reader whose image is out of date; whether there was one."""
        clients = self.server.get_clients()
        self._readers = {i: self._readers.get(i, Reader()) for i in clients}
        drawn = [self._draw_for(clients[i], reader, only_moving) for i, reader in self._readers.items()]
        return any(drawn)

    def _draw_for(self, client: Any, reader: Reader, only_moving: bool) -> bool:
        camera, mode = client.camera, self._mode.value  # read once: both may change meanwhile
        moving = time.time() - camera.update_timestamp < RESTS
        if only_moving and not moving:
            return False
        height = max(LEAST, int(self._resolution.value) // (QUARTER if moving else 1))
        size = (height, max(LEAST, round(height * camera.image_width / max(camera.image_height, 1))))
        state = (camera.update_timestamp, size, mode, self._version)
        if state == reader.state:
            return False
        cameras = from_viser(camera.wxyz, camera.position, camera.fov, size)
        seen = look(self.render, cameras, mode == "normals", self.device)
        image = shown(seen, mode)[0].nan_to_num().cpu()
        reader.state, reader.image = state, to_pil(image[None])[0]
        if client.client_id in self.server.get_clients():  # nobody has closed the page meanwhile
            quality = 60 if moving else 90
            client.scene.set_background_image(np.asarray(reader.image), format="jpeg", jpeg_quality=quality)
            client.flush()
        return True


def from_viser(
    wxyz: Sequence[float] | np.ndarray, position: Sequence[float] | np.ndarray, fov: float, size: tuple[int, int]
) -> Cameras:
    """One of our cameras from viser's.

    Args:
        wxyz: quaternion of the rotation from camera (OpenCV) to world.
        position: in the world.
        fov: vertical field of view, radians.
        size: (height, width) of images; pixels are square.

    Raises:
        ValueError: a field of view out of (0, pi), or a quaternion of no length.
    """
    if not 0 < fov < math.pi:
        raise ValueError(f"the field of view must be between 0 and pi, not {fov}")
    pose = torch.eye(4)
    pose[:3, :3] = rotation(torch.as_tensor(np.asarray(wxyz), dtype=torch.float64)).float()
    pose[:3, :3] *= torch.tensor([1.0, -1.0, -1.0])
    pose[:3, 3] = torch.as_tensor(np.asarray(position)).float()
    focal = torch.full((1, 2), size[0] / 2 / math.tan(fov / 2))
    return Cameras(pose[None], focal, torch.tensor([[size[1] / 2, size[0] / 2]]), size)


def rotation(wxyz: Float[Tensor, "4"]) -> Float[Tensor, "3 3"]:
    """The matrix of a quaternion of any length but 0."""
    length = wxyz.norm()
    if not bool(length > 0):
        raise ValueError("a quaternion of length 0 is no rotation")
    w, x, y, z = (wxyz / length).tolist()
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return wxyz.new_tensor(rows)


def _short(value: object) -> str:
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _taken(port: int) -> str:
    return f"port {port} is taken by another program: choose another port, such as {port + 1 if port < 65535 else 8080}"


def _check_free(host: str, port: int) -> None:
    """viser would take the next free port without a word."""
    if not 1 <= port <= 65535:
        raise ValueError(f"port must be between 1 and 65535, not {port}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise ValueError(f"port {port} needs the rights of an administrator: choose one above 1023") from error
        except socket.gaierror as error:
            raise ValueError(f"{host} is no address of this computer: use 127.0.0.1 or 0.0.0.0") from error
        except OSError as error:
            raise ValueError(_taken(port)) from error


def _viser() -> ModuleType:
    try:
        import viser
    except ImportError as error:
        raise ValueError("the live page needs viser: pip install 'scoredistill[ui]'") from error
    return viser
