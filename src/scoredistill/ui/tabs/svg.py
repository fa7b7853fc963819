"""Icons from text, as vector graphics."""

from typing import Any

from scoredistill.tasks.vector_graphics.recipes import VECTOR_RECIPES
from scoredistill.ui.calls import SVG
from scoredistill.ui.form import Form
from scoredistill.ui.panel import Panel
from scoredistill.ui.tabs.image import EXAMPLES

TRACING = {"trace": "a traced sample, for comparison"}
OPTIONS = ("paths", "colors", "init", "together", "candidates", "steps", "guidance", "negative_prompt", "lr", "follow")


def build(gr: Any, panel: Panel) -> None:
    """Build the tab."""
    form = Form(gr, SVG)
    form.text("Prompts, one per line", "What the icons show, for example: a rocket. Several make a set", EXAMPLES)
    form.method(VECTOR_RECIPES, TRACING)
    with gr.Row():
        form.option("seed", info="")
        form.option("style", info="")
    form.rest(panel.desk.models, OPTIONS, "method")
    button = gr.Button("Draw", variant="primary", elem_id="sd-go-svg")

    def start(*given: Any) -> list[str]:
        values = form.values(given)
        lines = tuple(line.strip() for line in str(values.get("prompts") or "").splitlines())
        values["prompts"] = tuple(filter(None, lines))
        return [panel.desk.submit(SVG, values, suffix=f"-svg-{values['method']}")]

    panel.starts(button, start, form.components)
