"""One prompt by several methods, side by side."""

from typing import Any

from scoredistill.tasks.image_generation.recipes import RECIPES
from scoredistill.ui.calls import IMAGE
from scoredistill.ui.form import Form
from scoredistill.ui.panel import Panel
from scoredistill.ui.tabs.image import EXAMPLES, SAMPLING

FIRST = ["ddim", "msd", "sds", "csd"]


def build(gr: Any, panel: Panel) -> None:
    """Build the tab."""
    form = Form(gr, IMAGE)
    form.text("Prompt", "What the images show, for example: a hamburger", EXAMPLES)
    names = [*SAMPLING, *RECIPES]
    methods = gr.CheckboxGroup(names, value=FIRST, label="Methods", info="They run one after the other.")
    with gr.Row():
        form.option("seed", minimum=0, info="")
        form.option("image")
    form.model(panel.desk.models)
    button = gr.Button("Compare", variant="primary", elem_id="sd-go-compare")

    def start(chosen: list[str], *given: Any) -> list[str]:
        if not chosen:
            raise ValueError("no method is chosen: choose at least one")
        values, desk = form.values(given), panel.desk
        order = [name for name in names if name in chosen]
        return [desk.submit(IMAGE, {**values, "method": name}, suffix=f"-{name}") for name in order]

    panel.starts(button, start, [methods, *form.components])
