"""A stand-in for the command line, for tests of the app's worker process."""

import hashlib
import os
import sys
import time
from pathlib import Path


def nothing():
    """Imports nothing beforehand."""


def command():
    """Do what the prompt says: `scoredistill image PROMPT --out DIR`."""
    what, out = sys.argv[2], Path(sys.argv[sys.argv.index("--out") + 1])
    out.mkdir(parents=True, exist_ok=True)
    (out / "arguments").write_text("\n".join(sys.argv))
    if what == "fail":
        print("scoredistill: emoji was not trained on it", file=sys.stderr)
        print(
            "msd:   0%|          | 0/2 [00:00<?, ?step/s]\rscoredistill: the disk is full: free some", file=sys.stderr
        )
        sys.exit(2)
    if what == "break":
        raise RuntimeError("a bug\nin two lines")
    if what == "die":
        os._exit(3)
    if what == "wait":
        print("msd:  25%|██▌       | 1/4 [00:10<00:30, 10.0s/step, t=0.5]", end="\r", file=sys.stderr, flush=True)
        (out / "begun").touch()
        time.sleep(600)
    if what == "compute":  # Python cannot act on a signal meanwhile
        (out / "begun").touch()
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)
