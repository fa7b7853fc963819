"""Names on the hub where it cannot be reached: said at once, and models in the cache are loaded."""

import shutil
import socket
import time

import pytest

import tiny
from scoredistill import load_prior
from scoredistill.priors.pipelines import hub


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a hub at a port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


def test_an_unreachable_hub_is_said_within_seconds(cache):
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"cannot load 'nobody/nothing': the hub cannot be reached") as caught:
        load_prior("nobody/nothing")
    assert time.perf_counter() - start < 5
    assert "\n" not in str(caught.value)


def test_without_downloads_only_the_cache_is_read(cache, monkeypatch):
    with pytest.raises(ValueError, match="'nobody/nothing': it is neither a directory nor in the cache"):
        load_prior("nobody/nothing", local_files_only=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="downloads are switched off"):
        load_prior("nobody/nothing")


def test_a_server_that_never_answers(monkeypatch):
    def slow(*_, **__):
        time.sleep(1)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", slow)
    start = time.perf_counter()
    assert not hub.reachable("http://127.0.0.1:1", 0.1)
    assert time.perf_counter() - start < 0.9


def test_a_server_that_answers_and_a_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert hub.reachable(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert not hub.reachable("http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:2")
    assert hub.reachable("http://127.0.0.1:1")


def test_a_cached_model_needs_no_hub(cache, monkeypatch):
    tiny.stable_diffusion(cache / "tokens").save_pretrained(cache / "saved")
    commit = "0" * 40
    snapshot = cache / "models--some--model" / "snapshots" / commit
    shutil.copytree(cache / "saved", snapshot)
    (cache / "models--some--model" / "refs").mkdir()
    (cache / "models--some--model" / "refs" / "main").write_text(commit)
    options = hub.hub_options("some/model", {"revision": None, "local_files_only": False})
    assert options == {"revision": None, "local_files_only": True}
