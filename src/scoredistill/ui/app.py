"""The page: forms in tabs, and beside them the run that is shown."""

from collections.abc import Callable
from typing import Any

from scoredistill.ui.desk import Desk
from scoredistill.ui.panel import Panel
from scoredistill.ui.tabs import compare, edit, history, image, object, svg, video

TITLE = "scoredistill"
TABS: tuple[tuple[str, Callable[[Any, Panel], None]], ...] = (
    ("Image", image.build),
    ("Edit", edit.build),
    ("Video", video.build),
    ("Object", object.build),
    ("SVG", svg.build),
    ("Compare", compare.build),
)
"""Label and builder of each form; a new form is a file in `tabs` and a line here."""
CACHE = (3600, 24 * 3600)  # seconds between two cleanings of the cache, and the age of what is removed


def blocks(gr: Any, desk: Desk) -> Any:
    """The app as gradio's blocks.

    Args:
        gr: gradio.
        desk: the state of the app.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=CACHE) as page:
        gr.HTML(f"<h1>{TITLE}</h1><p>A diffusion model as the critic of images, videos and 3-D objects.</p>",
                elem_classes="sd-title")  # fmt: skip
        with gr.Row(equal_height=False):
            forms = gr.Column(scale=5, min_width=320)
            with gr.Column(scale=6, min_width=320, elem_id="sd-run"):
                panel = Panel(gr, desk)
            with forms, gr.Tabs():
                for label, build in TABS:
                    with gr.Tab(label):
                        build(gr, panel)
                with gr.Tab("Runs") as tab:
                    history.build(gr, panel, tab)
        panel.wire()
        panel.opens(page)
    return page
