"""What the source never does, found in its syntax tree: open images of any format, unpickle, or run what it reads."""

import ast
from pathlib import Path

import pytest

import scoredistill

ROOT = Path(scoredistill.__file__).parent
TOP = ROOT.parents[1]
SOURCES = sorted(path for name in ("src", "benchmarks", "tools") for path in (TOP / name).rglob("*.py"))
PICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def faults(text):
    """Descriptions of the calls and imports in a source that read what strangers may have written unsafely."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"imports {name}" for name in names if name.partition(".")[0] in PICKLING]
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
        if called.endswith("Image.open") and "formats" not in given:
            found.append("opens images of any format")
        if called == "torch.load" and given.get("weights_only") != "True":
            found.append("unpickles with torch.load")
        if called.endswith("load") and given.get("allow_pickle", "False") != "False":
            found.append("unpickles with NumPy")
        if called in ("eval", "exec", "os.system", "os.popen") or given.get("shell", "False") != "False":
            found.append(f"runs text: {called}")
        if given.get("trust_remote_code", "False") != "False":
            found.append("trusts remote code")
        if (
            called in ("torch.save", "torch.hub.load", "yaml.load", "numpy.save")
            and given.get("allow_pickle") != "False"
        ):
            found.append(f"calls {called}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(TOP).as_posix())
def test_the_source_reads_nothing_unsafely(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "Image.open(path)",
        "with PIL.Image.open(path) as image: pass",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "import pickle",
        "import os, pickle as p",
        "from pickle import load",
        "def late():\n    from joblib import load",
        "eval(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "torch.save(state, path)",
        "yaml.load(text)",
    ],
)
def test_what_is_planted_is_found(text):
    assert len(faults(text)) == 1


def test_what_is_safe_passes():
    safe = ["Image.open(path, formats=('PNG',))", "torch.load(path, weights_only=True)", "np.load(path)"]
    assert [faults(text) for text in [*safe, "model.eval()", "open(path)", "import json"]] == [[]] * 6
