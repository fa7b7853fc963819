"""Editing of an image or a panorama, as a whole or where it is painted on."""

from pathlib import Path
from typing import Any

import numpy as np

from scoredistill.media.images import read_image
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES
from scoredistill.ui.calls import EDIT
from scoredistill.ui.files import COLORS, DRAWN, keep, masks, sized
from scoredistill.ui.form import Form
from scoredistill.ui.panel import Panel

EXAMPLES = ("make it night", "make it snowy", "make it sepia", "turn it into a pencil sketch", "invert the colors")
OPTIONS = ("size", "sweeps", "text_scale", "image_scale", "detail", "stride", "kernel", "feather", "negative_prompt")


def build(gr: Any, panel: Panel) -> None:
    """Build the tab."""
    form = Form(gr, EDIT)
    source = gr.Image(
        label="Image or 360-degree panorama", type="filepath", image_mode=None, sources=["upload", "clipboard"],
        height=260, elem_id="sd-source",
    )  # fmt: skip
    form.text("Instruction", "What to change, for example: make it night. Empty if only painted parts change", EXAMPLES)
    form.option("wrap", label="The left and the right border join: a 360-degree panorama", info="")
    with gr.Accordion("Paint regions with instructions of their own", open=False):
        canvas = gr.ImageEditor(
            label="Paint in up to three colors", type="numpy", image_mode="RGBA", format="png", sources=(),
            transforms=(), layers=False, height=420, elem_id="sd-canvas",
            brush=gr.Brush(default_size=40, colors=list(COLORS.values()), color_mode="fixed"),
        )  # fmt: skip
        painted = [gr.Textbox(label=f"Instruction for {color}", max_length=2000) for color in COLORS]
    form.method(EDIT_RECIPES)
    form.option("seed", minimum=0, info="")
    form.rest(panel.desk.models, OPTIONS, "method")
    button = gr.Button("Edit", variant="primary", elem_id="sd-go-edit")

    def start(path: str | None, drawing: Any, *given: Any) -> list[str]:
        if not path:
            raise ValueError("there is no image yet: choose one first")
        words, values = given[: len(painted)], form.values(given[len(painted) :])
        regions = regions_of(drawing, [str(each or "") for each in words], panel.desk.root)
        kept = keep(Path(path), panel.desk.root)
        return [panel.desk.submit(EDIT, {**values, "regions": regions}, kept)]

    source.change(drawable, source, canvas, show_progress="hidden", api_visibility="private")
    panel.starts(button, start, [source, canvas, *painted, *form.components])


def drawable(path: str | None) -> np.ndarray | None:
    """The image to paint on; None without one, or if it cannot be read, which the run says."""
    if not path:
        return None
    try:
        return np.asarray(sized(read_image(path), DRAWN, 512))
    except (ValueError, OSError):
        return None


def regions_of(drawing: Any, words: list[str], root: Path) -> tuple[str, ...]:
    """The regions that were painted, as the task takes them.

    Args:
        drawing: what the image editor gives.
        words: instruction of each color.
        root: directory of the runs.

    Raises:
        ValueError: if a color has an instruction and no paint, or paint and no instruction.
    """
    found = masks(drawing, root)
    asked = {color: text.strip() for color, text in zip(COLORS, words, strict=True) if text.strip()}
    for color in COLORS:
        if color in asked and color not in found:
            raise ValueError(f"nothing is painted in {color}: paint the part, or empty its instruction")
        if color in found and color not in asked:
            raise ValueError(f"something is painted in {color}: say what to change there, or erase it")
    return tuple(f"{found[color].as_posix()}: {text}" for color, text in asked.items())
