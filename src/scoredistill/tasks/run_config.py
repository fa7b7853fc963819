"""config.json of a run: what it says, and how it compares with what is asked for."""

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from scoredistill.recipe import OwnMethod

CONFIG = "config.json"
IDENTITY = ("prompt", "instruction", "method", "prior", "seed")  # settings that images of a run name


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a run; empty without one, as models have a config.json too."""
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = isinstance(config, dict) and {"request", "version", "command"} <= set(config)
    return config if known and isinstance(config["request"], dict) else {}


def differences(config: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    """The names of the values of a request that differ from those of a run; None stands for any value.

    An option that the run's version did not have differs if it is used.

    Args:
        config: config.json of the run.
        request: the values.
    """
    before, now = config["request"], json.loads(json.dumps(dict(request), default=str))
    differs = lambda name, value: before[name] != value if name in before else bool(value)
    return [name for name, value in now.items() if value is not None and differs(name, value)]


def values_of(settings: object) -> dict[str, Any]:
    """The values of a dataclass of settings, by name."""
    if not is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"settings must be a dataclass, not {type(settings).__name__}")
    return asdict(settings)


def method_file(settings: object) -> dict[str, str]:
    """The file of a method of the user's own and the hash of its content, for config.json."""
    method = getattr(settings, "method", None)
    if not isinstance(method, OwnMethod) or not method.sha256:
        return {}
    return {"method_file": method.file, "method_sha256": method.sha256}


def digest(values: bytes | memoryview) -> str:
    """Hash that identifies a source in config.json."""
    return hashlib.sha256(values).hexdigest()


def command_line() -> str:
    """The command that was typed, or how Python was started."""
    program = Path(sys.argv[0]).name
    if program == "-c":
        return "python -c ..."
    if program == "__main__.py":
        return shlex.join(["python", "-m", "scoredistill", *sys.argv[1:]])
    return shlex.join([*([] if program == "scoredistill" else ["python"]), program, *sys.argv[1:]])


def result_of(path: Path) -> dict[str, Any]:
    """result.json of a run; empty if it is not finished."""
    try:
        found = json.loads((path / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def provenance(config: Mapping[str, Any]) -> dict[str, Any]:
    """What images of a run say of it.

    Args:
        config: config.json of the run.
    """
    request = config.get("request", {})
    made = {name: config[name] for name in ("command", "version") if name in config}
    return {**made, **{name: request[name] for name in IDENTITY if request.get(name) not in (None, "")}}
