"""Names on the hub: found in its cache, or refused within seconds where the hub cannot be reached.

The hub's own client tries a connection for most of a minute and then says that the model does not exist.
"""

import os
import socket
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

SECONDS = 4.0  # to wait for a connection
INDICES = ("model_index.json", "modular_model_index.json")  # of pipelines, the second of modular ones


def hub_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options to load a model of the hub with: from the cache alone where the hub cannot be reached.

    Args:
        name: of the model.
        options: `revision` and `local_files_only`.

    Raises:
        ValueError: if the model is not in the cache, and must be, or the hub cannot be reached.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    cached = any(isinstance(try_to_load_from_cache(name, i, revision=options["revision"]), str) for i in INDICES)
    if options["local_files_only"] or constants.HF_HUB_OFFLINE:
        if not cached:
            raise ValueError(
                f"cannot load {name!r}: it is neither a directory nor in the cache of the hub, and downloads are "
                "switched off: correct the name, or switch them on"
            )
        return {**options, "local_files_only": True}
    if reachable(constants.ENDPOINT):
        return dict(options)
    if not cached:
        raise ValueError(
            f"cannot load {name!r}: the hub cannot be reached, and it is neither a directory nor in its cache: connect "
            "to the network, or give a directory"
        )
    return {**options, "local_files_only": True}


def reachable(address: str, seconds: float | int = SECONDS) -> bool:
    """Whether a server accepts connections; True behind a proxy, which alone can tell.

    Args:
        address: URL of the server.
        seconds: to wait, also for the resolution of its name.
    """
    parts = urlsplit(address)
    if any(os.environ.get(key) for name in (f"{parts.scheme}_proxy", "all_proxy") for key in (name, name.upper())):
        return True
    port = parts.port or (80 if parts.scheme == "http" else 443)
    found: list[bool] = []

    def connect() -> None:
        try:
            with socket.create_connection((parts.hostname or "", port), timeout=seconds):
                found.append(True)
        except OSError:
            pass

    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(seconds)
    return bool(found)
