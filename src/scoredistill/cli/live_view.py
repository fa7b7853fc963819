"""A 3-D scene in a browser during its optimization."""

from types import TracebackType

from scoredistill.loop import Step
from scoredistill.optional import require
from scoredistill.ranks import Ranks
from scoredistill.three_d.fitting import FitStep
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.viewer import Viewer, check_free

HOST = "127.0.0.1"


class Watch:
    """A callback of `text_to_3d` and `edit_scene` that shows the scene at a local address.

    The page opens with the first step. Use the object in a `with` statement, which closes the page.

    Args:
        port: port of the page; None to show nothing.
        title: title of the page.
    """

    def __init__(self, port: int | None, title: str = "scoredistill"):
        self.port, self.title = port if Ranks.here().leads else None, title
        self.viewer: Viewer | None = None

    def __call__(self, step: Step | FitStep, scene: Scene) -> None:
        """Show the scene after a finished step."""
        if self.port is not None:
            self._opened(scene, self.port).update({"step": f"{step.index + 1} of {step.steps}"})

    def stay(self, scene: Scene) -> None:
        """Show the finished scene until the user interrupts."""
        if self.port is None:
            return
        viewer = self._opened(scene, self.port)
        print(f"Turn it at {viewer.url}; Ctrl-C ends")
        try:
            viewer.serve()
        except KeyboardInterrupt:
            return

    def _opened(self, scene: Scene, port: int) -> Viewer:
        """The page, opened at first use."""
        if self.viewer is None:
            self.viewer = Viewer(scene.render, port, HOST, title=self.title, device=scene.device)
            print(f"Watch it at {self.viewer.url}")
        return self.viewer

    def __enter__(self) -> "Watch":
        """Check before the work what the page will need.

        Raises:
            ValueError: if the port is in use or not allowed.
            MissingExtra: if viser is not installed.
        """
        if self.port is not None:
            require("viser", "nerf", "the live viewer")
            check_free(HOST, self.port)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.viewer is not None:
            self.viewer.close()
