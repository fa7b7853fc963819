"""Image from text."""

from typing import Any

from scoredistill.tasks.image_generation.recipes import RECIPES
from scoredistill.ui.calls import IMAGE
from scoredistill.ui.form import Form
from scoredistill.ui.panel import Panel

EXAMPLES = ("a hamburger", "a cactus", "a castle", "an owl", "a rocket")
SAMPLING = {"ddim": "sampling, for comparison"}
OPTIONS = ("image", "steps", "guidance", "negative_prompt", "lr", "follow", "through")


def build(gr: Any, panel: Panel) -> None:
    """Build the tab."""
    form = Form(gr, IMAGE)
    form.text("Prompt", "What the image shows, for example: a hamburger", EXAMPLES)
    form.method(RECIPES, SAMPLING)
    with gr.Row():
        form.option("seed", minimum=0, info="")
        form.option("particles", label="Images", info="")
    form.rest(panel.desk.models, OPTIONS, "method", "image")
    button = gr.Button("Generate", variant="primary", elem_id="sd-go-image")

    def start(*given: Any) -> list[str]:
        values = form.values(given)
        return [panel.desk.submit(IMAGE, values, suffix=f"-{values['method']}")]

    panel.starts(button, start, form.components)
