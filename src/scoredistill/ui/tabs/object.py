"""3-D object from text."""

from typing import Any

from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES
from scoredistill.ui.calls import OBJECT
from scoredistill.ui.form import Form
from scoredistill.ui.panel import Panel
from scoredistill.ui.tabs.image import EXAMPLES

OPTIONS = ("shape", "encoding", "steps", "views", "guidance", "negative_prompt", "view_prompts", "perp_neg", "shading",
           "background", "lr", "follow", "size", "sparsity", "entropy", "orientation")  # fmt: skip


def build(gr: Any, panel: Panel) -> None:
    """Build the tab."""
    form = Form(gr, OBJECT)
    form.text("Prompt", "What the object is, for example: a hamburger", EXAMPLES)
    form.method(OBJECT_RECIPES)
    form.option("seed", minimum=0, info="")
    form.rest(panel.desk.models, OPTIONS, "method")
    button = gr.Button("Make the object", variant="primary", elem_id="sd-go-object")

    def start(*given: Any) -> list[str]:
        values = form.values(given)
        return [panel.desk.submit(OBJECT, values, suffix=f"-3d-{values['method']}")]

    panel.starts(button, start, form.components)
