"""The house keeps its order: modules import what stands below them, never in a circle, and optional packages lazily."""

import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

import scoredistill
from import_graph import ImportGraph

# Rows from the bottom up. A module imports from rows below its own and from its own package; packages of one row do not
# import each other. Sampling stands above priors, since it samples from a `Prior`. The package's own `__init__` offers
# `distill` and `load_prior`, so it stands above the loop; modules above it read `__version__` there.
LAYERS = [
    {"schedule", "rng", "ranks", "kernels", "window_grid", "files", "optional", "pretrained", "suggest"},
    {"times", "checkpoint"},
    {"clock", "media", "reports"},
    {"priors"},
    {"sampling"},
    {"estimators", "generators", "metrics"},
    {"three_d"},
    {"loop", "loss", "recipe"},
    {"__init__"},
    {"datasets"},
    {"training"},
    {"tasks"},
    {"pipelines"},
    {"studies"},
    {"ui"},
    {"cli"},
    {"__main__"},
]
HEIGHT = {name: height for height, row in enumerate(LAYERS) for name in row}
BROUGHT = {"tokenizers"}  # by a required package, transformers
OWN_MESSAGE = {"torch_fidelity"}  # in no extra; `metrics.inception` raises `MissingExtra` with what to install
SLOW = {
    "diffusers",
    "transformers",
    "huggingface_hub",
    "tqdm",
}  # required, but slow to import: may be late
LAZY = "scoredistill.cli"  # commands import what they run when they run it, so that --help is quick
ROOT = Path(scoredistill.__file__).parent
MODULES = {"pillow": "PIL", "huggingface-hub": "huggingface_hub"}  # distributions that are imported under another name


def room(module):
    """The part of the package that a module belongs to: the name after `scoredistill.`."""
    return [*module.split("."), "__init__"][1]


def upward(graph):
    """Imports of what does not stand below, as text."""
    pairs = ((each, room(each.importer), room(each.imported)) for each in graph.internal)
    return [str(each) for each, above, below in pairs if above != below and HEIGHT[above] <= HEIGHT[below]]


def roundabout(graph):
    """Imports of a re-exported name through a package that the importer is itself part of: a hidden cycle."""
    found = (each for each in graph.internal if each.through is not None)
    return [str(each) for each in found if f"{each.importer}.".startswith(f"{each.through}.")]


def required():
    """The packages that are always installed."""
    always = (line.partition(">")[0] for line in requires("scoredistill") or () if "extra ==" not in line)
    return {MODULES.get(name, name) for name in always} | BROUGHT


def misplaced(graph):
    """Imports of packages that may be missing, and late imports of what is neither slow nor lazy."""
    known = required()
    wrong = []
    for each in graph.imports:
        top = each.imported.partition(".")[0]
        if top == graph.package:
            fine = not each.late or each.importer.startswith(LAZY)
        elif top in sys.stdlib_module_names:
            fine = not each.late
        else:
            always = top in known and (not each.late or top in SLOW)
            fine = always or each.typing or (each.late and top in OWN_MESSAGE)
        if not fine:
            wrong.append(str(each))
    return wrong


@pytest.fixture(scope="module")
def graph():
    return ImportGraph(ROOT)


def test_every_part_of_the_package_has_a_layer(graph):
    assert {room(module) for module in graph.modules} == set(HEIGHT)


def test_imports_point_down(graph):
    assert upward(graph) == []


def test_there_are_no_import_cycles(graph):
    assert graph.cycles() == []


def test_no_module_imports_through_its_own_package(graph):
    assert roundabout(graph) == []


def test_optional_packages_are_required_where_they_are_used(graph):
    """Statements import what is always installed; the rest goes through `optional.require`, which says what to do."""
    assert misplaced(graph) == []


class TestPlanted:
    """Each check fails when what it looks for is planted in a synthetic package."""

    @pytest.fixture
    def package(self, tmp_path):
        files = {
            "__init__.py": "",
            "schedule.py": "import torch\n\nNUMBER = 1\n",
            "times.py": "from scoredistill.schedule import NUMBER\n",
            "priors/__init__.py": "from scoredistill.priors.base import Prior\n",
            "priors/base.py": "from scoredistill.schedule import NUMBER\n\n\nclass Prior:\n    pass\n",
            "priors/network.py": "from scoredistill.priors.base import Prior\n\n\ndef build():\n    return Prior()\n",
            "loop.py": "from scoredistill.priors import Prior\nfrom scoredistill import times\n",
        }
        for name, text in files.items():
            path = tmp_path / "scoredistill" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "scoredistill"

    @staticmethod
    def plant(package, name, text):
        path = package / name
        path.write_text(path.read_text() + text)
        return ImportGraph(package)

    def test_the_bare_package_is_in_order(self, package):
        graph = ImportGraph(package)
        assert graph.cycles() == upward(graph) == roundabout(graph) == misplaced(graph) == []
        found = {(each.importer, each.imported) for each in graph.internal}
        assert ("scoredistill.loop", "scoredistill.priors.base") in found  # not the package that re-exports it
        assert ("scoredistill.loop", "scoredistill.times") in found

    @pytest.mark.parametrize(
        "text",
        [
            "from scoredistill.priors.network import build\n",
            "from scoredistill.priors import network\n",
            "import scoredistill.priors.network\n",
            "from .network import build\n",
            "from . import network\n",
            "\n\ndef late():\n    from scoredistill.priors.network import build\n",
            "\n\nclass Late:\n    def method(self):\n        if self:\n            from .network import build\n",
            "\n\nif TYPE_CHECKING:\n    from scoredistill.priors.network import build\n",
            "\n\ntry:\n    import scoredistill.priors.network as net\nexcept ImportError:\n    net = None\n",
        ],
    )
    def test_a_cycle_is_found(self, package, text):
        graph = self.plant(package, "priors/base.py", text)
        assert graph.cycles() == [["scoredistill.priors.base", "scoredistill.priors.network"]]

    def test_a_longer_cycle_is_found(self, package):
        graph = self.plant(package, "schedule.py", "\n\ndef late():\n    from scoredistill import loop\n")
        assert graph.cycles() == [[f"scoredistill.{name}" for name in ("loop", "priors.base", "schedule", "times")]]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("schedule.py", "from scoredistill.loop import distill\n"),
            ("priors/network.py", "\n\ndef late():\n    from scoredistill import loop\n"),
            ("priors/network.py", "\n\nif TYPE_CHECKING:\n    import scoredistill.loop\n"),
        ],
    )
    def test_an_upward_import_is_found(self, package, name, text):
        (found,) = upward(self.plant(package, name, text))
        assert found.endswith("imports scoredistill.loop")

    def test_an_import_through_the_own_package_is_found(self, package):
        (found,) = roundabout(self.plant(package, "priors/network.py", "from scoredistill.priors import Prior\n"))
        assert found.startswith("scoredistill.priors.network")

    @pytest.mark.parametrize(
        "text",
        [
            "import viser\n",
            "\n\ndef late():\n    import viser\n",
            "\n\ndef late():\n    from skimage.registration import optical_flow_tvl1\n",
            "\n\ndef late():\n    import json\n",
            "\n\ndef late():\n    import torch\n",
            "\n\ndef late():\n    from scoredistill.schedule import NUMBER\n",
        ],
    )
    def test_a_misplaced_import_is_found(self, package, text):
        assert len(misplaced(self.plant(package, "loop.py", text))) == 1

    @pytest.mark.parametrize("text", ["import tqdm\n", "\n\ndef late():\n    from diffusers import DDIMScheduler\n"])
    def test_required_packages_may_be_imported(self, package, text):
        assert misplaced(self.plant(package, "loop.py", text)) == []
