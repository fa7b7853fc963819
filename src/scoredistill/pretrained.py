"""The networks that come with the package, and a quiet context to load networks in."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

BUNDLED = ("emoji", "emoji-edit")


def bundled_folder(name: str) -> Path:
    """The directory of a bundled model, by its name."""
    return Path(str(files("scoredistill"))) / "priors" / "bundled" / name


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the progress bars, log messages and `FutureWarning`s of diffusers and transformers within a block.

    Their messages on loading concern this package, not its users: torchvision is deliberately not a dependency, and
    `torch_dtype` is the one spelling that all supported versions accept.
    """
    import diffusers
    import transformers

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for library, (level, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(level)
            if bars:
                library.enable_progress_bar()
