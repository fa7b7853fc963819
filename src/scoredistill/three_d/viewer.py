r"""Live viewer in the browser (viser): every visitor sees the scene from their own camera while it is optimized.

Images are rendered by the optimizing thread, inside `Viewer.update`, so parameters never change during a render and one
thread alone uses the GPU. Visitors therefore wait for the end of a step. While a camera moves, its images are small and
follow every step; those of cameras at rest take at most a given fraction of the time. Nothing is rendered without
visitors. What they send is bounded (`visitors`), and what goes wrong in showing the scene does not end the run.

    viewer = Viewer(scene.render)
    for step in range(steps):
        ...
        viewer.update({"step": step, "loss": loss})
    viewer.serve()                                  # show the finished scene until the process is stopped

viser's cameras follow OpenCV: x right, y down, looking along +z, with the pose as a quaternion (w, x, y, z) from camera
to world and the vertical field of view in radians. With R their rotation, ours is R diag(1, -1, -1).
"""

import io
import math
import socket
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scoredistill.media.images import to_pil
from scoredistill.optional import require
from scoredistill.three_d.camera import Cameras, around
from scoredistill.three_d.rotations import quaternion_to_matrix
from scoredistill.three_d.turntable import MODES, Render, mode_image, render_views
from scoredistill.three_d.visitors import FOV, MIN_SIZE, bounded, image_size, only_own_pages, valid_pose

AT_REST = 0.3  # seconds without movement after which a camera counts as at rest
REDUCTION = 4  # factor, per axis, by which images of moving cameras are smaller
POLL = 0.02  # seconds between checks of the cameras while no step is made


@dataclass
class Visitor:
    """The last image shown to one visitor, and the state that it shows."""

    state: tuple[Any, ...] = ()
    image: Image.Image | None = field(default=None, repr=False)


class Viewer:
    """A live viewer at `url`; close it with `close`, or use it in a `with` statement.

    Args:
        render: cameras -> rgb, opacity, depth and normal, as for `turntable`.
        port: of the web server.
        host: "127.0.0.1" accepts connections from this computer only, "0.0.0.0" from the network.
        title: shown above the controls.
        resolution: height in pixels of images of cameras at rest; visitors can change it.
        fraction: largest fraction of the time, in (0, 1], that `update` spends on cameras at rest.
        device: on which the renderer expects its cameras.

    Raises:
        ValueError: if the port is in use or not allowed, or a number is out of range.
        MissingExtra: if viser is not installed.
    """

    def __init__(
        self,
        render: Render,
        port: int = 8080,
        host: str = "127.0.0.1",
        title: str = "scoredistill",
        resolution: int = 256,
        fraction: float | int = 0.2,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be in (0, 1], not {fraction}")
        if resolution < MIN_SIZE:
            raise ValueError(f"resolution must be at least {MIN_SIZE} pixels, not {resolution}")
        viser = require("viser", "nerf", "the live viewer")
        check_free(host, port)
        self.render, self.fraction, self.device = render, fraction, device
        with only_own_pages(host):
            self.server = viser.ViserServer(host=host, port=port, label=title, verbose=False)
        self.server.request_share_url = lambda *_, **__: None  # whatever a page asks: it would open a public tunnel
        if self.server.get_port() != port:  # taken since the check
            self.server.stop()
            raise ValueError(_taken(port))
        self.url = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}"
        self._visitors: dict[int, Visitor] = {}
        self._version, self._rest_until, self._told = 0, 0.0, -math.inf
        self._closed = False
        self._start_view()
        self._controls(resolution)

    def _start_view(self) -> None:
        """Look at the front of the object from slightly above."""
        first = around(torch.tensor([0.0]), 15.0)
        self.server.scene.set_up_direction("+z")
        self.server.scene.world_axes.visible = False
        camera = self.server.initial_camera
        camera.position, camera.look_at = tuple(first.eyes[0].tolist()), (0.0, 0.0, 0.0)
        camera.fov = math.radians(40.0)

    def _controls(self, resolution: int) -> None:
        gui = self.server.gui
        gui.configure_theme(show_share_button=False, show_logo=False)  # sharing would use a third-party server
        self._status = gui.add_markdown("Waiting for the first step")
        self._mode = gui.add_dropdown("mode", MODES)
        self._largest = max(1024, resolution)
        self._resolution = gui.add_slider("pixels", min(64, resolution), self._largest, 8, resolution)
        self._pause = gui.add_checkbox("pause", False)
        save = gui.add_button("save image")

        @save.on_click
        def _(event: Any) -> None:
            visitor = self._visitors.get(event.client_id)
            if visitor is not None and visitor.image is not None:
                file = io.BytesIO()
                visitor.image.save(file, format="PNG")
                event.client.send_file_download("image.png", file.getvalue())

    @property
    def paused(self) -> bool:
        """Whether a visitor has paused the optimization; False without visitors."""
        return not self._closed and bool(self._pause.value) and bool(self.server.get_clients())

    def update(self, info: Mapping[str, object] | None = None) -> None:
        """Show a completed step to the visitors; while one of them pauses, keep rendering and do not return.

        Args:
            info: values of the step to display, by name.
        """
        if self._closed:
            return
        self._version += 1
        if not self.server.get_clients():
            self._visitors.clear()
            self._show_info(info, least=1.0)
            return
        self._show_info(info)
        self._draw_if_due()
        while self.paused:
            self._draw()
            time.sleep(POLL)

    def serve(self, seconds: float | int = math.inf) -> None:
        """Render for visitors without new steps, for some seconds or until the viewer is closed."""
        end = time.monotonic() + seconds
        while not self._closed and time.monotonic() < end:
            self._draw()
            time.sleep(POLL)

    def close(self) -> None:
        """Stop the server; further calls do nothing."""
        if not self._closed:
            self._closed = True
            self.server.stop()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _show_info(self, info: Mapping[str, object] | None, least: float = 0.2) -> None:
        """Display the values of a step, at most once every `least` seconds."""
        now = time.monotonic()
        if info and now - self._told >= least:
            self._told = now
            self._status.content = "  \n".join(f"**{key}** {escape(_short(value))}" for key, value in info.items())

    def _draw_if_due(self) -> None:
        """Render for moving cameras, and for cameras at rest if the fraction of the time allows it."""
        start = time.monotonic()
        resting = start < self._rest_until
        if self._draw(only_moving=resting) and not resting:
            end = time.monotonic()
            self._rest_until = end + (end - start) * (1 / self.fraction - 1)

    def _draw(self, only_moving: bool = False) -> bool:
        """Render for each visitor whose image is out of date; return whether there was one."""
        clients = self.server.get_clients()
        self._visitors = {i: self._visitors.get(i, Visitor()) for i in clients}
        drawn = [self._drawn_for(clients[i], visitor, only_moving) for i, visitor in self._visitors.items()]
        return any(drawn)

    def _drawn_for(self, client: Any, visitor: Visitor, only_moving: bool) -> bool:
        """`_draw_for`, whose errors are said to the visitors and, once for each, as a warning."""
        try:
            return self._draw_for(client, visitor, only_moving)
        except Exception as error:  # the run goes on without this image
            sentence = f"the live view cannot show the scene: {' '.join(str(error).split()) or type(error).__name__}"
            self._status.content = escape(sentence)
            warnings.warn(sentence, stacklevel=4)
            return True

    def _draw_for(self, client: Any, visitor: Visitor, only_moving: bool) -> bool:
        camera, mode = client.camera, self._mode.value  # read once, because both may change meanwhile
        if mode not in MODES or not valid_pose(camera.wxyz, camera.position):
            return False
        moving = time.time() - camera.update_timestamp < AT_REST
        if only_moving and not moving:
            return False
        height = int(bounded(self._resolution.value, MIN_SIZE, self._largest, self._largest))
        height = max(MIN_SIZE, height // (REDUCTION if moving else 1))
        size = image_size(height, camera.image_width, camera.image_height)
        state = (camera.update_timestamp, size, mode, self._version)
        if state == visitor.state:
            return False
        visitor.state = state  # what fails is not tried again
        cameras = from_viser(camera.wxyz, camera.position, bounded(camera.fov, *FOV, 1.0), size)
        seen = render_views(self.render, cameras, mode == "normals", self.device)
        image = mode_image(seen, mode)[0].nan_to_num().cpu()
        visitor.image = to_pil(image[None])[0]
        if client.client_id in self.server.get_clients():  # the visitor has not left meanwhile
            quality = 60 if moving else 90
            client.scene.set_background_image(np.asarray(visitor.image), format="jpeg", jpeg_quality=quality)
            client.flush()
        return True


def from_viser(
    wxyz: Sequence[float] | np.ndarray, position: Sequence[float] | np.ndarray, fov: float, size: tuple[int, int]
) -> Cameras:
    """Convert a camera of viser.

    Args:
        wxyz: quaternion of the rotation from camera (OpenCV) to world, of any length but 0.
        position: in the world.
        fov: vertical field of view in radians.
        size: (height, width) of the image in pixels, which are square.

    Raises:
        ValueError: if the field of view is not in (0, pi), or the quaternion has length 0.
    """
    if not 0 < fov < math.pi:
        raise ValueError(f"the field of view must be between 0 and pi radians, not {fov}")
    quaternion = torch.as_tensor(np.asarray(wxyz), dtype=torch.float64)
    if not bool(quaternion.norm() > 0):
        raise ValueError("the quaternion wxyz has length 0, which is no rotation: give one of any other length")
    pose = torch.eye(4)
    pose[:3, :3] = quaternion_to_matrix(quaternion).float()
    pose[:3, :3] *= torch.tensor([1.0, -1.0, -1.0])
    pose[:3, 3] = torch.as_tensor(np.asarray(position)).float()
    focal = torch.full((1, 2), size[0] / 2 / math.tan(fov / 2))
    return Cameras(pose[None], focal, torch.tensor([[size[1] / 2, size[0] / 2]]), size)


def _short(value: object) -> str:
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _taken(port: int) -> str:
    return (
        f"port {port} is in use by another program: choose another port, such as {port + 1 if port < 65535 else 8080}"
    )


def check_free(host: str, port: int) -> None:
    """Refuse a port in use, because viser would silently take the next free one.

    Raises:
        ValueError: if the port is in use or not allowed, or the host is no address of this computer.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"port must be between 1 and 65535, not {port}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise ValueError(f"port {port} needs administrator rights: choose a port above 1023") from error
        except socket.gaierror as error:
            raise ValueError(f"{host} is not an address of this computer: use 127.0.0.1 or 0.0.0.0") from error
        except OSError as error:
            raise ValueError(_taken(port)) from error
