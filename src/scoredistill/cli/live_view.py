"""A thing in a browser while it is made."""

from types import TracebackType
from typing import Any

from scoredistill.loop import Step
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.viewer import Viewer


class Watch:
    """A callback of `text_to_3d` and `edit_scene` that shows the scene at a local address; nothing without a port.

    The page opens with the first step. Use it in a `with` statement, which closes it.
    """

    def __init__(self, port: int | None, title: str = "scoredistill"):
        self.port, self.title = port, title
        self.viewer: Viewer | None = None

    def __call__(self, step: Step | Any, scene: Scene) -> None:
        """Tell the page of a finished step."""
        if self.port is None:
            return
        if self.viewer is None:
            self._open(scene)
        assert self.viewer is not None
        self.viewer.update({"step": f"{step.index + 1} of {step.steps}"})

    def stay(self, scene: Scene) -> None:
        """Show the finished thing until the reader interrupts."""
        if self.port is None:
            return
        if self.viewer is None:
            self._open(scene)
        assert self.viewer is not None
        print(f"Turn it at {self.viewer.url}; Ctrl-C ends")
        try:
            self.viewer.serve()
        except KeyboardInterrupt:
            return

    def _open(self, scene: Scene) -> None:
        device = next(scene.parameters()).device
        self.viewer = Viewer(scene.render, self.port or 0, title=self.title, device=device)
        print(f"Watch it at {self.viewer.url}")

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.viewer is not None:
            self.viewer.close()
