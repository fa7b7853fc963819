"""The live viewer: cameras of viser against ours, a simulated browser, and a real one."""

import base64
import io
import itertools
import json
import math
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from PIL import Image

from scoredistill.optional import MissingExtra
from scoredistill.three_d.camera import around
from scoredistill.three_d.viewer import Viewer, from_viser
from scoredistill.three_d.visitors import same_page, valid_pose
from three_d.test_turntable import Counted, ball

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Clock:
    """The time of the viewer, which passes only while it sleeps or where a test says so."""

    def __init__(self):
        self.passed, self.wall = 0.0, time.time()

    def monotonic(self):
        return self.passed

    def time(self):
        return self.wall

    def sleep(self, seconds):
        self.passed += seconds
        self.wall += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("scoredistill.three_d.viewer.time", clock)
    return clock


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def as_viser(cameras):
    """(wxyz, position, fov) of one of our cameras, by SciPy's quaternions."""
    rotations = pytest.importorskip("scipy.spatial.transform").Rotation
    opencv = cameras.poses[0, :3, :3].double().numpy() @ np.diag([1.0, -1.0, -1.0])
    x, y, z, w = rotations.from_matrix(opencv).as_quat().tolist()
    fov = 2 * math.atan(cameras.size[0] / 2 / float(cameras.focal[0, 1]))
    return (w, x, y, z), tuple(cameras.eyes[0].tolist()), fov


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.0), (90.0, 15.0), (-50.0, -30.0), (200.0, 80.0)])
def test_cameras_of_viser_are_ours(azimuth, elevation):
    ours = around(torch.tensor([azimuth]), elevation, 2.5, 50.0, size=(30, 44))
    theirs = from_viser(*as_viser(ours), (30, 44))
    torch.testing.assert_close(theirs.poses, ours.poses, atol=1e-5, rtol=0)
    torch.testing.assert_close(theirs.focal, ours.focal)
    torch.testing.assert_close(theirs.rays()[1], ours.rays()[1], atol=1e-5, rtol=0)
    scaled = from_viser(2 * np.array(as_viser(ours)[0]), *as_viser(ours)[1:], (30, 44))
    torch.testing.assert_close(scaled.poses, theirs.poses)


def test_impossible_cameras_are_refused():
    with pytest.raises(ValueError, match="no rotation"):
        from_viser((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0, (4, 4))
    with pytest.raises(ValueError, match="between 0 and pi"):
        from_viser((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, (4, 4))


def test_without_viser_its_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(MissingExtra, match=r"pip install 'scoredistill\[nerf\]'"):
        Viewer(ball, free_port())


def test_a_port_in_use_is_refused():
    pytest.importorskip("viser")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} is in use by another program: choose another port"):
            Viewer(ball, port)
    with pytest.raises(ValueError, match="between 1 and 65535"):
        Viewer(ball, 0)
    with pytest.raises(ValueError, match="fraction"):
        Viewer(ball, port, fraction=0)


def test_nothing_is_rendered_without_visitors_and_closing_frees_the_port(clock):
    pytest.importorskip("viser")
    render, port = Counted(), free_port()
    for _ in range(2):  # the port can be used again
        with Viewer(render, port) as viewer:
            for step in range(1000):
                viewer.update({"step": step, "loss": torch.tensor(0.123456)})
            assert viewer._status.content == "**step** 0  \n**loss** 0.1235"
            clock.sleep(1.0)
            viewer.update({"step": 1000})
            assert viewer._status.content == "**step** 1000"
            assert not viewer.paused
        viewer.close()
        viewer.update({"step": 1000})  # a loop that goes on does not mind
    assert render.asked == []


class Page:
    """A simulated browser: the messages that one sends and receives."""

    def __init__(self, port, **headers):
        connect = pytest.importorskip("websockets.sync.client").connect
        import viser

        self.encode = pytest.importorskip("msgspec").msgpack.encode
        self.socket = connect(
            f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{viser.__version__}"], max_size=None, compression=None,
            additional_headers=headers,
        )  # fmt: skip
        self.images = []
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self):
        import zstandard

        with suppress(Exception):  # until the connection ends
            for data in self.socket:
                end = 16 + int.from_bytes(data[8:16], "little")  # of the compressed part
                data = zstandard.ZstdDecompressor().decompress(data[16:end]) + data[end:]
                start = data.find(b"\xff\xd8\xff")  # a JPEG
                if start >= 0:
                    self.images.append(Image.open(io.BytesIO(data[start:])).convert("RGB"))

    def move(self, cameras, height=300, width=400, **odd):
        wxyz, position, fov = as_viser(cameras)
        message = {"type": "ViewerCameraMessage", "wxyz": wxyz, "position": position, "fov": fov, "near": 0.01}
        message |= {"far": 100.0, "image_height": height, "image_width": width, "look_at": (0.0, 0.0, 0.0)}
        self.socket.send(self.encode({**message, "up_direction": (0.0, 0.0, 1.0), **odd}))


def wait_for(condition):
    """Sleep until a condition holds; the time limit of the test ends what never does."""
    while not condition():
        time.sleep(0.01)


def moved(viewer, clock, page, cameras):
    """Move the camera of the one visitor, and set the time to the moment at which the viewer receives it."""
    before = [client.camera.update_timestamp for client in viewer.server.get_clients().values()]
    page.move(cameras)
    stamps = lambda: [client.camera.update_timestamp for client in viewer.server.get_clients().values()]
    wait_for(lambda: stamps() not in ([], before))
    (clock.wall,) = stamps()


@contextmanager
def connected(render, **how):
    """A viewer and a simulated browser with a camera at azimuth 70 and elevation 20."""
    pytest.importorskip("viser")
    viewer = Viewer(render, free_port(), **how)
    page = Page(viewer.server.get_port())
    try:
        page.move(around(torch.tensor([70.0]), 20.0, 2.8, 45.0, size=(300, 400)))
        wait_for(viewer.server.get_clients)
        yield viewer, page
    finally:
        page.socket.close()
        viewer.close()


def test_the_camera_of_a_visitor_reaches_the_renderer_and_its_image_the_visitor(clock):
    seen = []

    def render(cameras):
        seen.append(cameras)
        return ball(cameras)

    with connected(render, resolution=120) as (viewer, page):
        moved(viewer, clock, page, around(torch.tensor([70.0]), 20.0, 2.8, 45.0, size=(300, 400)))
        viewer.update({"step": 1})
        assert seen[0].size == (30, 40)  # it has just moved
        viewer.serve(0.6)
        assert seen[-1].size == (120, 160)
        expected = around(torch.tensor([70.0]), 20.0, 2.8, 45.0, size=(120, 160))
        torch.testing.assert_close(seen[-1].poses, expected.poses, atol=1e-5, rtol=0)
        torch.testing.assert_close(seen[-1].focal, expected.focal)
        wait_for(lambda: page.images and page.images[-1].size == (160, 120))
        drawn = np.asarray(page.images[-1]).astype(float)
        truth = np.asarray((ball_of(expected).rgb[0] * 255).permute(1, 2, 0))
        assert np.abs(drawn - truth).mean() < 3  # JPEG
        page.images.clear()
        count = len(seen)
        viewer.serve(0.2)
        assert len(seen) == count  # nothing changed, nothing is drawn
        viewer._mode.value = "opacity"
        viewer.serve(0.1)
        assert len(seen) == count + 1
        wait_for(lambda: page.images)
        flat = np.asarray(page.images[-1]).astype(float)
        assert flat[60, 80].min() > 250
        assert flat[:5].max() < 5


@torch.no_grad()
def ball_of(cameras):
    return ball(cameras)


def test_rendering_for_a_camera_at_rest_keeps_to_its_fraction(clock):
    drawn = []

    def slow(cameras):
        clock.sleep(0.05)
        drawn.append(cameras)
        return ball(cameras)

    with connected(slow, fraction=0.1, resolution=32) as (viewer, page):
        viewer.serve(0.6)  # the camera comes to rest
        drawn.clear()
        end = clock.passed + 1.2
        while clock.passed < end:
            viewer.update()
            clock.sleep(0.002)
        assert len(drawn) == 3  # 0.05 s of every 0.5 s
        drawn.clear()
        viewer.update()
        assert drawn == []
        moved(viewer, clock, page, around(torch.tensor([10.0])))
        viewer.update()
        assert len(drawn) == 1  # at once


def test_pause_stops_the_loop_and_still_renders():
    render = Counted()
    with connected(render, resolution=32) as (viewer, page):
        viewer._pause.value = True
        loop = threading.Thread(target=viewer.update, daemon=True)
        loop.start()
        time.sleep(0.5)
        count = len(render.asked)
        page.move(around(torch.tensor([0.0])))
        wait_for(lambda: len(render.asked) > count)
        assert loop.is_alive()
        viewer._mode.value = "normals"
        wait_for(lambda: render.asked[-1] == (1, True))
        viewer._pause.value = False
        loop.join()
        assert not loop.is_alive()
        viewer._pause.value = True
        loop = threading.Thread(target=viewer.update, daemon=True)
        loop.start()
        page.socket.close()  # who has left cannot go on
        loop.join()
        assert not loop.is_alive()


NAN, INF = math.nan, math.inf
ODD = [
    {"fov": 0.0}, {"fov": NAN}, {"fov": INF}, {"fov": -1.0}, {"fov": math.pi}, {"fov": 1e300}, {"fov": 1e-300},
    {"wxyz": (0.0, 0.0, 0.0, 0.0)}, {"wxyz": (NAN, 0.0, 0.0, 1.0)}, {"wxyz": (INF, 0.0, 0.0, 1.0)},
    {"wxyz": (1e300, 0.0, 0.0, 1e300)}, {"wxyz": (1e-320, 0.0, 0.0, 0.0)},
    {"position": (NAN, 0.0, 0.0)}, {"position": (0.0, INF, 0.0)}, {"position": (0.0, 0.0, 1e300)},
    {"width": 10**9}, {"height": 0}, {"height": -5}, {"width": 0}, {"height": 0, "width": 0}, {"height": 10**9},
    {"width": 10**18}, {"width": 10**18, "height": 10**18}, {"width": -(10**9)},
]  # fmt: skip


@pytest.mark.filterwarnings("error:the live view")
def test_odd_cameras_neither_end_the_run_nor_ask_for_large_images(clock):
    seen = []

    def render(cameras):
        seen.append(cameras)
        return ball(cameras)

    camera = around(torch.tensor([70.0]), 20.0, 2.8, 45.0, size=(300, 400))
    with connected(render, resolution=32) as (viewer, page):
        for odd in ODD:
            client = next(iter(viewer.server.get_clients().values()))
            before = client.camera.update_timestamp
            page.move(camera, **odd)
            end = time.monotonic() + 5
            wait_for(lambda c=client, old=before, e=end: c.camera.update_timestamp != old or time.monotonic() > e)
            clock.wall = client.camera.update_timestamp + 1
            viewer.update()
            clock.sleep(1.0)
        assert len(seen) > 10
        assert max(max(cameras.size) for cameras in seen) <= 4 * 32
        assert all(bool(cameras.poses.isfinite().all() and cameras.focal.isfinite().all()) for cameras in seen)
        assert viewer.server.get_clients()


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("_resolution", 10**9), ("_resolution", -(10**9)), ("_resolution", NAN), ("_resolution", "1e9"),
        ("_resolution", [1]), ("_resolution", None), ("_mode", "evil"),
        ("_mode", 5), ("_mode", None), ("_mode", ["rgb"]),
        ("_pause", "no"), ("_pause", None),
    ],
)  # fmt: skip
def test_odd_values_of_controls_are_bounded(clock, control, value):
    render = []

    def seen(cameras):
        render.append(cameras.size)
        return ball(cameras)

    with connected(seen, resolution=32) as (viewer, _):
        viewer._largest = 64
        getattr(viewer, control)._impl.value = value
        clock.wall += 10
        threading.Thread(target=viewer.update, daemon=True).start()
        viewer.serve(0.1)
        assert all(max(size) <= 4 * 64 for size in render)


def test_an_error_in_a_view_is_said_once_and_the_run_goes_on(clock):
    def broken(cameras):
        raise RuntimeError("no\nkernel <b>for this</b>")

    with connected(broken, resolution=32) as (viewer, _):
        clock.wall += 10
        with pytest.warns(UserWarning, match="the live view cannot show the scene: no kernel") as caught:
            viewer.serve(0.2)
        assert len(caught) == 1
        assert "<b>" not in viewer._status.content
        viewer.update({"loss": "<img src=x onerror=alert(1)>"})


@pytest.mark.parametrize(
    ("origin", "asked", "fine"),
    [
        (None, None, True),
        ("http://127.0.0.1:{port}", None, True),
        ("http://evil.example", None, False),
        ("http://evil.example:{port}", "evil.example:{port}", False),  # a name that was made to point here
        ("http://localhost:1", None, False),
        ("http://localhost:{port}", "localhost:{port}", True),
        ("http://127.0.0.1.evil.example:{port}", None, False),
        ("null", None, False),
        ("file://", None, False),
        ("", None, False),
        ("http://[", None, False),
    ],
)
def test_other_pages_cannot_connect(origin, asked, fine):
    viser = pytest.importorskip("viser")
    port = free_port()
    headers = {} if origin is None else {"Origin": origin.format(port=port)}
    if asked is None:
        asked = f"127.0.0.1:{port}"
    with Viewer(ball, port), socket.create_connection(("127.0.0.1", port)) as line:
        lines = [f"Host: {asked.format(port=port)}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
        lines += [f"Sec-WebSocket-Protocol: viser-v{viser.__version__}", *(f"{k}: {v}" for k, v in headers.items())]
        line.sendall("\r\n".join(["GET / HTTP/1.1", *lines, "", ""]).encode())
        assert line.recv(12).endswith(b"101" if fine else b"403")


@pytest.mark.parametrize(
    "pose", [((1.0, 0.0), (0.0,) * 3), ((), ()), ("abcd", "abc"), (None, None), ([[1.0]] * 4, [0.0] * 3)]
)
def test_what_is_no_pose(pose):
    assert not valid_pose(*pose)


def test_which_pages_are_the_viewers_own():
    own = lambda origin, asked, host="127.0.0.1": same_page({"Origin": origin, "Host": asked}, host)
    assert own("http://192.168.1.5:8080", "192.168.1.5:8080", "0.0.0.0")
    assert own("http://[::1]:8080", "[::1]:8080")
    assert own("http://localhost:9000", "localhost:9000")  # a port forwarded by ssh
    assert own("https://desk.local:8080", "desk.local:8080", "0.0.0.0")
    assert own(f"http://{socket.gethostname().lower()}:8080", f"{socket.gethostname().lower()}:8080", "0.0.0.0")
    assert own("http://box.example:8080", "box.example:8080", "box.example")
    assert not own("http://evil.example:8080", "evil.example:8080", "0.0.0.0")
    assert not own("http://localhost.evil.example:8080", "localhost.evil.example:8080")
    assert not own("http://localhost:8080", "localhost:8081")
    assert not own("http://localhost:8080", "")
    assert not own("http://", "")
    assert not own("ftp://localhost:80", "localhost:80")


def test_no_page_opens_a_public_tunnel():
    pytest.importorskip("viser")
    with Viewer(ball, free_port()) as viewer:
        assert viewer.server.request_share_url() is None


class Browser:
    """Headless Chromium, controlled through DevTools."""

    def __init__(self, url, folder):
        connect = pytest.importorskip("websockets.sync.client").connect
        flags = "--headless=new --no-sandbox --disable-quic --no-first-run --disable-background-networking"
        flags += " --disable-component-update --disable-sync --enable-unsafe-swiftshader --remote-debugging-port=0"
        self.process = subprocess.Popen(
            [CHROMIUM, *flags.split(), f"--user-data-dir={folder}", "--window-size=1000,700", url],
            stderr=subprocess.DEVNULL,
        )
        port = folder / "DevToolsActivePort"
        wait_for(lambda: port.exists() and len(port.read_text().split()) == 2)
        with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json") as answer:
            page = next(part for part in json.load(answer) if part["type"] == "page")
        self.socket = connect(page["webSocketDebuggerUrl"], max_size=None)
        self.numbers = itertools.count()

    def call(self, method, **values):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": values}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == number:
                return answer["result"]

    def drag(self, start, end, y):
        mouse = lambda kind, x: self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
        )
        mouse("mousePressed", start)
        for k in range(11):
            mouse("mouseMoved", start + (end - start) * k / 10)
        mouse("mouseReleased", end)

    def image(self):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(float)

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_object_and_rotates_it(tmp_path):
    pytest.importorskip("viser")
    with Viewer(ball, free_port(), title="a ball", resolution=240) as viewer:
        browser = Browser(viewer.url, tmp_path)
        try:
            shots = []

            def side(middle):
                """Render until the center of the page has about this color."""
                viewer.update({"step": len(shots)})
                viewer.serve(0.5)
                shots.append(browser.image())
                height, width = shots[-1].shape[:2]
                return np.abs(shots[-1][height // 2, width // 2] - middle).max() < 40

            front = around(torch.tensor([0.0]), 15.0).eyes[0].numpy() / 3
            wait_for(lambda: side(255 * (front + 1) / 2))  # the normal that looks at the first camera
            height, width = shots[-1].shape[:2]
            assert (shots[-1][height // 2, 20] == 255).all()  # beside it is white
            reach = 0.45 * height * (0.6 / 3) / math.tan(math.radians(20))  # of the ball, a little less
            right, left = (shots[-1][height // 2, round(width / 2 + way * reach)] for way in (1, -1))
            assert right[0] > 200 > 60 > left[0]  # +x is to the right of the front
            before = next(iter(viewer.server.get_clients().values())).camera.position
            browser.drag(width // 2, width // 2 - 150, height // 2)
            wait_for(lambda: not viewer.serve(0.2) and moved_right(viewer, before))
            towards = lambda eye: 255 * (eye / np.linalg.norm(eye) + 1) / 2
            position = lambda: next(iter(viewer.server.get_clients().values())).camera.position
            wait_for(lambda: side(towards(position())))
        finally:
            browser.close()


def moved_right(viewer, before):
    """Whether the camera has moved to the side of +x."""
    now = next(iter(viewer.server.get_clients().values())).camera
    return now.position[0] > before[0] + 1 and time.time() - now.update_timestamp > 0.5
