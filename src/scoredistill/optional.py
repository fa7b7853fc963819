"""Optional dependencies, imported where they are used, with one error that names what to install."""

from importlib import import_module
from typing import Any


class MissingExtra(ImportError):
    """An optional dependency is not installed; the message names the extra of scoredistill that brings it."""


def require(module: str, extra: str, purpose: str) -> Any:
    """Import an optional dependency.

    Args:
        module: the module to import, for example "skimage.registration".
        extra: the extra of scoredistill that installs it, for example "video".
        purpose: what needs it, as the subject of a sentence, for example "optical flow".

    Returns:
        The module.

    Raises:
        MissingExtra: if the module, or something it imports, is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise MissingExtra(
            f"{purpose} needs {missing.partition('.')[0]}, which is not installed: pip install 'scoredistill[{extra}]'"
        ) from error
