"""Runs on disk, to look at, to continue, or to compare."""

from typing import Any

from scoredistill.ui.history import Run, runs
from scoredistill.ui.panel import Panel

THUMBNAIL = 256  # pixels
MOST = 8  # runs side by side


def build(gr: Any, panel: Panel, tab: Any) -> None:
    """Build the tab.

    Args:
        gr: gradio.
        panel: shows the chosen run.
        tab: the tab itself, which is refreshed when it is opened.
    """
    desk = panel.desk
    listed = gr.State([])
    gr.Markdown("Runs in the run directory, the last one first, whoever made them. Choose one to see it.")
    none = gr.Markdown("There are no runs yet.", visible=False)
    gallery = gr.Gallery(
        label="Runs", show_label=False, columns=3, object_fit="contain", allow_preview=False,
        height="auto", interactive=False, buttons=[], elem_id="sd-history",
    )  # fmt: skip
    with gr.Row():
        again = gr.Button("Look again", elem_id="sd-again")
    several = gr.Dropdown([], multiselect=True, max_choices=MOST, label="Side by side", elem_id="sd-several")
    compare = gr.Button("Show them side by side", elem_id="sd-go-several")

    def look() -> list[Any]:
        shown = [(run, image) for run in runs(desk.root) if (image := thumbnail(run)) is not None]
        names = [run.name for run, _ in shown]
        images = [(image, caption(run)) for run, image in shown]
        choices = [(f"{run.title} ({run.name})", run.name) for run, _ in shown]
        return [names, gr.update(value=images), gr.update(choices=choices), gr.update(visible=not names)]

    def thumbnail(run: Run) -> str | None:
        preview = run.image
        return None if preview is None else desk.display(preview, THUMBNAIL)

    def choose(names: list[str], event: Any) -> list[str]:
        index = event.index
        if not isinstance(index, int) or not 0 <= index < len(names):
            raise ValueError("this run is not in the list: look again")
        return [names[index]]

    def together(names: list[str] | None) -> list[str]:
        if not names:
            raise ValueError("no run is chosen: choose some first")
        return [name for name in names if desk.run(name) is not None][:MOST]

    choose.__annotations__["event"] = gr.SelectData
    outputs = [listed, gallery, several, none]
    for trigger in (tab.select, again.click):
        trigger(look, None, outputs, show_progress="hidden", api_visibility="private")
    panel.starts(gallery.select, choose, [listed])
    panel.starts(compare, together, [several])


def caption(run: Run) -> str:
    """What stands below a run."""
    parts = [run.title[:60], *([run.method] if run.method else []), run.stage.value]
    return " · ".join(parts)
