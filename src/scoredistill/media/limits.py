"""What image files may be: the formats that are read, and the number of pixels that fits into memory.

Pillow recognizes a file by its content, whatever its name is, and starts other programs for some formats (Ghostscript
for EPS), so every `Image.open` of the package names its formats. A file of a few kilobytes can have 2^28 pixels, so the
memory that a job needs for them is compared with what is free before any pixel is decoded.
"""

from functools import cache
from pathlib import Path

from PIL import Image

MAX_PIXELS = 2**28  # 16384 x 16384; 768 MiB as RGB
READING = 20  # bytes per pixel at the peak of reading an image as RGB: as stored, turned, over white
EDITING = 56  # of an edit of it at full size: the source and the results as floats
FORMATS = (
    "PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000", "ICO", "TGA", "QOI",
    "PSD",
)  # fmt: skip
"""Names of Pillow for formats with pixels alone. HEIF is a plugin's; others run programs, or are mere containers."""
CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


@cache
def formats() -> list[str]:
    """The formats that are read and that the installed version of Pillow knows, for `Image.open(..., formats=)`."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def check_size(size: tuple[int, int], name: str, bytes_per_pixel: int = READING) -> None:
    """Refuse an image that has no pixels, or too many, before it is decoded.

    Args:
        size: (width, height) in pixels.
        name: of the image, for the message.
        bytes_per_pixel: what the job needs at its peak, for example `EDITING`.

    Raises:
        ValueError: if there are no pixels, more than 2^28, or more than fit into the free memory.
    """
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"{name} has no pixels ({width} x {height}): give an image of at least 1 x 1")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} has {width} x {height} pixels, more than 2^28: make it smaller first")
    need, free = width * height * bytes_per_pixel, free_memory()
    if need > 2**26 and free is not None and need > free:
        raise ValueError(
            f"{name} has {width} x {height} pixels, for which about {need / 2**30:.1f} GiB of memory are needed, but "
            f"{free / 2**30:.1f} GiB are free: make it smaller first"
        )


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that can be used without swapping, within the limit of a container; None if it is not known.

    Args:
        root: of the file system, in which Linux tells them.
    """
    known = []
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                known.append(1024 * int(line.split()[1]))
    except (OSError, ValueError, IndexError):
        pass
    for limit, used in CGROUPS:
        try:
            values = [int((root / "sys/fs/cgroup" / name).read_text()) for name in (limit, used)]
        except (OSError, ValueError):  # no limit is the word "max"
            continue
        known.append(max(0, values[0] - values[1]))
    return min(known, default=None)
