"""The server answers its own page only, and sends files of its directories only."""

import asyncio

import pytest

from scoredistill.ui.guard import Guard

OWN = {"host": "127.0.0.1:7860"}


async def behind(scope, receive, send):
    """The app behind the guard."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b""})


def asked(guard, path="/", headers=OWN):
    """(status, headers) of the answer."""
    sent = []

    async def send(message):
        sent.append(message)

    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(guard({"type": "http", "path": path, "headers": given}, None, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.fixture
def guard(tmp_path):
    for name in ("runs/a", "cache", "runs-of-others"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.png").touch()
    (tmp_path / "runs" / "link.png").symlink_to(tmp_path / "runs-of-others" / "x.png")
    return Guard(behind, "127.0.0.1", [tmp_path / "runs", tmp_path / "cache"])


@pytest.mark.parametrize("headers", [
    OWN, {"host": "localhost:7860", "origin": "http://localhost:7860"}, {"host": "[::1]:7860"},
    {**OWN, "origin": "http://127.0.0.1:7860"},
])  # fmt: skip
def test_the_own_page_is_answered_and_loads_nothing_from_elsewhere(guard, headers):
    status, given = asked(guard, headers=headers)
    assert status == 200
    assert given["content-security-policy"].startswith("default-src 'self'")
    assert "http" not in given["content-security-policy"]
    assert given["x"] == "y"


@pytest.mark.parametrize("headers", [
    {}, {"host": "evil.example:7860"}, {**OWN, "origin": "https://evil.example"}, {**OWN, "origin": "null"},
    {**OWN, "origin": "http://127.0.0.1:8000"}, {"host": "evil.example", "origin": "http://evil.example"},
])  # fmt: skip
def test_other_pages_and_names_are_refused(guard, headers):
    assert asked(guard, headers=headers)[0] == 403


def test_files_of_the_runs_are_sent_without_access_to_the_app(guard, tmp_path):
    for file in ("runs/a/x.png", "cache/x.png"):
        status, given = asked(guard, f"/gradio_api/file={tmp_path / file}")
        assert status == 200
        assert given["content-security-policy"].startswith("sandbox allow-scripts;")


@pytest.mark.parametrize(
    "file", ["{}/runs/../runs-of-others/x.png", "{}/runs/link.png", "{}/runs-of-others/x.png", "/etc/passwd",
             "http://evil.example/x.png", "../x.png", "{}/runs/%2e%2e/runs-of-others/x.png", "{}/runs/a\0"],
)  # fmt: skip
def test_other_files_are_not(guard, tmp_path, file, monkeypatch):
    monkeypatch.chdir(tmp_path / "runs")
    assert asked(guard, f"/gradio_api/file={file.format(tmp_path)}")[0] == 403


def test_web_sockets_are_closed(guard):
    sent = []

    async def send(message):
        sent.append(message["type"])

    asyncio.run(guard({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent == ["websocket.close"]


@pytest.mark.parametrize("file", ["{}/runs-of-others/x.png", "{}/runs/link.png", "/etc/passwd", "etc/passwd"])
def test_the_old_route_of_files_is_guarded_alike(guard, tmp_path, file):
    status, given = asked(guard, f"/gradio_api/file/{tmp_path}/runs/a/x.png")
    assert status == 200
    assert given["content-security-policy"].startswith("sandbox allow-scripts;")
    assert asked(guard, f"/gradio_api/file/{file.format(tmp_path)}")[0] == 403


@pytest.mark.parametrize(
    "route", ["proxy=http://x.hf.space/a", "vibe-code", "stream/a/b/c/playlist-file", "dev/reload"]
)
def test_routes_that_the_page_does_not_need_are_refused(guard, route):
    assert asked(guard, f"/gradio_api/{route}")[0] == 403
    assert asked(guard, "/gradio_api/queue/join")[0] == asked(guard, "/assets/a.js")[0] == 200
