"""The part of the page that shows a run, or several side by side."""

from dataclasses import asdict
from functools import wraps
from html import escape
from typing import Any

from scoredistill.ui.desk import Desk
from scoredistill.ui.style import SHOW_RUN
from scoredistill.ui.view import View, changes, view

HIDDEN = "hidden"  # a viewer that is not on the page from the start never shows a model (gradio 6.31)
TICK = 1.0  # seconds between two looks at a run


class Panel:
    """Components that show the chosen runs, and what refreshes them.

    Args:
        gr: gradio.
        desk: the state of the app.

    Attributes:
        chosen: names of the runs that are shown.
    """

    def __init__(self, gr: Any, desk: Desk):
        self.gr, self.desk = gr, desk
        self.chosen = gr.State([])
        self._shown = gr.State({})
        self._timer = gr.Timer(TICK, active=False)
        empty = View()
        headline = gr.HTML("", elem_id="sd-headline")
        progress = gr.HTML("", visible=False, elem_id="sd-progress")
        self._stop = gr.Button("Stop", variant="stop", visible=False, elem_id="sd-stop")
        self._resume = gr.Button("Continue", variant="primary", visible=False, elem_id="sd-continue")
        stage = gr.HTML(empty.stage, elem_id="sd-stage")
        pair = gr.ImageSlider(
            label="Before and after", show_label=False, type="filepath", visible=False, interactive=False,
            max_height=640, elem_id="sd-slider",
        )  # fmt: skip
        model = gr.Model3D(
            label="3-D model", show_label=False, visible=HIDDEN, interactive=False, height=380, elem_id="sd-model"
        )
        plain = {"interactive": False, "wrap_lines": True, "show_line_numbers": False}
        with gr.Accordion("Files", open=False):
            downloads = gr.HTML("", elem_id="sd-files")
        with gr.Accordion("Show me the command", open=False):
            command = gr.Code("", language="shell", label="Command", **plain, elem_id="sd-command")
        with gr.Accordion("Show me the Python", open=False):
            python = gr.Code("", language="python", label="Python", **plain, elem_id="sd-python")
        self._parts = {
            "headline": headline, "progress": progress, "stage": stage, "pair": pair, "model": model,
            "downloads": downloads, "command": command, "python": python, "stops": self._stop, "resumes": self._resume,
            "live": self._timer,
        }  # fmt: skip

    def wire(self) -> None:
        """Connect the buttons and the clock; call once, inside the blocks."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        refresh = {"fn": self._refresh, "inputs": [self.chosen, self._shown], "outputs": self._outputs, **quiet}
        self._timer.tick(**refresh)
        self._stop.click(self._stopped, self.chosen, None, **quiet).then(**refresh)
        self.starts(self._resume, self._resumed, [self.chosen])

    def starts(self, trigger: Any, make: Any, inputs: list[Any], scroll: bool = True) -> None:
        """Choose what a function returns, when a button is pressed.

        Args:
            trigger: a button, or another event.
            make: function of the inputs that returns names of runs; a ValueError or an ImportError is shown.
            inputs: components.
            scroll: show the runs on a small screen.
        """
        listen = getattr(trigger, "click", trigger)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        made = listen(self._said(make), inputs, self.chosen, **quiet)
        shown = made.success(self._refresh, [self.chosen, self._shown], self._outputs, **quiet)
        if scroll:
            shown.success(None, None, None, js=SHOW_RUN)

    def opens(self, blocks: Any) -> None:
        """Show the newest run when the page is opened or reloaded."""
        self.starts(blocks.load, self.desk.newest, [], scroll=False)

    @property
    def _outputs(self) -> list[Any]:
        return [self._shown, *self._parts.values()]

    def _refresh(self, chosen: list[str], shown: dict[str, Any]) -> list[Any]:
        """The updates of all components: only of those that change."""
        now = asdict(view(self.desk, chosen))
        new = changes(shown, now)
        gr = self.gr
        skip = gr.skip()
        updates: list[Any] = [now if new else skip]
        for name in self._parts:
            updates.append(self._update(name, now[name]) if name in new else skip)
        return updates

    def _update(self, name: str, value: Any) -> Any:
        gr = self.gr
        if name in ("stops", "resumes"):
            return gr.update(visible=value)
        if name == "live":
            return gr.update(active=value)
        if name in ("pair", "model", "progress", "stage"):
            return gr.update(value=value, visible=bool(value) or (HIDDEN if name == "model" else False))
        return value

    def _stopped(self, chosen: list[str]) -> None:
        self.desk.stop(chosen)

    def _resumed(self, chosen: list[str]) -> list[str]:
        return [self.desk.resume(name) for name in chosen[:1]]

    def _said(self, make: Any) -> Any:
        """A function whose errors are shown as one sentence."""

        @wraps(make)  # gradio passes the event to an argument that is annotated so
        def checked(*given: Any) -> Any:
            try:
                return make(*given)
            except (ValueError, OSError, ImportError) as error:
                words = " ".join(str(error).split())[:1000]
                raise self.gr.Error(escape(words), title="Please check", print_exception=False) from error

        return checked
