"""gradio, imported such that it asks nothing of the network."""

import os
from typing import Any

from scoredistill.optional import require

QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_RUN_HISTORY": "False"}


def gradio() -> Any:
    """The package.

    Raises:
        MissingExtra: if it is not installed.
    """
    os.environ.update(QUIET)
    return require("gradio", "ui", "the web app")
