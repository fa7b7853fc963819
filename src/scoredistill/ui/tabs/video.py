"""Editing of a video."""

from pathlib import Path
from typing import Any

from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES
from scoredistill.ui.calls import VIDEO
from scoredistill.ui.files import keep
from scoredistill.ui.form import Form
from scoredistill.ui.panel import Panel
from scoredistill.ui.tabs.edit import EXAMPLES

OPTIONS = ("group", "overlap", "flow", "size", "sweeps", "text_scale", "image_scale", "detail", "stride", "kernel",
           "negative_prompt", "wrap")  # fmt: skip


def build(gr: Any, panel: Panel) -> None:
    """Build the tab."""
    form = Form(gr, VIDEO)
    source = gr.Video(label="Video", sources=["upload"], height=260, elem_id="sd-video")
    form.text("Instruction", "What to change, for example: make it night", EXAMPLES)
    form.method(VIDEO_RECIPES)
    form.option("seed", minimum=0, info="")
    form.rest(panel.desk.models, OPTIONS, "method", "group")
    button = gr.Button("Edit the video", variant="primary", elem_id="sd-go-video")

    def start(path: str | None, *given: Any) -> list[str]:
        if not path:
            raise ValueError("there is no video yet: choose one first")
        kept = keep(Path(path), panel.desk.root)
        return [panel.desk.submit(VIDEO, form.values(given), kept)]

    panel.starts(button, start, [source, *form.components])
