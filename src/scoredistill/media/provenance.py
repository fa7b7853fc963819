"""What made an image, kept in its PNG file: the command, the seed, the version and the prompt, as JSON in a text chunk.

The chunk has no dates and no names of machines, so that the same run writes the same bytes.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

KEY = "scoredistill"  # keyword of the chunk
LONGEST = 100_000  # characters of a chunk that is read


def text_chunk(made: Mapping[str, Any]) -> PngImagePlugin.PngInfo:
    """The chunk, for `Image.save(pnginfo=...)`.

    Args:
        made: what is known of the image, by name; it must be JSON.
    """
    info = PngImagePlugin.PngInfo()
    info.add_itxt(KEY, json.dumps(dict(made), ensure_ascii=False, sort_keys=True))
    return info


def read_chunk(path: str | Path) -> dict[str, Any]:
    """What a PNG file says of how it was made; empty if it says nothing, or is no PNG file."""
    with suppress(OSError, ValueError, SyntaxError), Image.open(path, formats=("PNG",)) as image:
        image.load()  # text may stand behind the pixels
        text = image.info.get(KEY, "")
        made = json.loads(text[:LONGEST]) if isinstance(text, str) and text else {}
        return made if isinstance(made, dict) else {}
    return {}
