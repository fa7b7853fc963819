"""The server of the app."""

import os
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from scoredistill.optional import require
from scoredistill.tasks.output_paths import check_writable
from scoredistill.three_d.viewer import check_free
from scoredistill.ui.app import blocks
from scoredistill.ui.desk import Desk
from scoredistill.ui.files import Display
from scoredistill.ui.guard import Guard
from scoredistill.ui.jobs import Queue
from scoredistill.ui.style import CSS
from scoredistill.ui.toolkit import gradio
from scoredistill.ui.worker import DEVICES, Main, Prepare

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LARGEST = "1gb"  # of an upload
FONTS = ("system-ui", "sans-serif")
MONO = ("ui-monospace", "monospace")


@contextmanager
def served(
    root: Path, main: Main, prepare: Prepare, host: str = "127.0.0.1", port: int = 7860, models: Sequence[str] = (),
    open_browser: bool = False,
) -> Iterator[str]:  # fmt: skip
    """Serve the app during the block.

    Args:
        root: directory of the runs; created if missing.
        main, prepare: the command line and its imports, for workers.
        host: address to listen on.
        port: port to listen on.
        models: names, directories or hub names of models that forms offer, beside the bundled ones.
        open_browser: open the page in a browser.

    Yields:
        The address of the page.

    Raises:
        ValueError: if the port is in use, or the directory cannot be written.
        MissingExtra: if gradio is not installed.
    """
    check_free(host, port)
    check_writable(root)
    if host not in LOOPBACK:
        warnings.warn(
            f"everyone who can reach {host} can run jobs here and see all of {root}: use 127.0.0.1 unless you trust "
            "the network",
            stacklevel=2,
        )
    with tempfile.TemporaryDirectory(prefix="scoredistill-ui-") as scratch:
        cache, logs, shown = (Path(scratch) / name for name in ("cache", "logs", "cache/shown"))
        for folder in (cache, logs, shown):
            folder.mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(cache)  # read when components are made
        gr = gradio()
        root.mkdir(parents=True, exist_ok=True)
        queue = Queue(main, prepare, logs, devices())
        page = blocks(gr, Desk(root, queue, Display(shown), tuple(models)))
        try:
            yield _launched(gr, page, host, port, root, cache, open_browser)
        finally:
            page.close(verbose=False)
            queue.close()


def serve(root: Path, main: Main, prepare: Prepare, **settings: Any) -> None:
    """Serve the app until Ctrl-C; see `served`."""
    with served(root, main, prepare, **settings) as url:
        print(f"Open {url}  (Ctrl-C ends; runs go to {root})", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


def devices() -> list[str | None]:
    """Names of the GPUs, if there are several; [None] stands for whatever the computer has."""
    count = torch.cuda.device_count()
    if count < 2:
        return [None]
    visible = os.environ.get(DEVICES, "")
    return list((visible.split(",") if visible else [str(index) for index in range(count)])[:count])


def _launched(gr: Any, page: Any, host: str, port: int, root: Path, cache: Path, open_browser: bool) -> str:
    """Start the server; its address."""
    middleware = require("starlette.middleware", "ui", "the web app").Middleware
    theme = gr.themes.Soft(primary_hue="indigo", font=FONTS, font_mono=MONO).set(
        body_background_fill="*neutral_50", background_fill_primary="*neutral_50", block_background_fill="white",
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        block_title_text_color="*primary_700", block_label_text_color="*primary_700",
        block_info_text_color="#4b5563", block_info_text_color_dark="#a8b0bd",
    )  # fmt: skip
    _, url, _ = page.launch(
        server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True, show_error=True,
        allowed_paths=[str(root.resolve())], max_file_size=LARGEST, footer_links=[], run_history=False,
        enable_monitoring=False, ssr_mode=False, pwa=False, mcp_server=False, inbrowser=open_browser, inline=False,
        theme=theme, css=CSS,
        app_kwargs={"middleware": [middleware(Guard, host=host, roots=[root, cache])], "docs_url": None,
                    "redoc_url": None, "openapi_url": None},
    )  # fmt: skip
    return str(url)
