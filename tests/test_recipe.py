"""Methods of one's own: what a file, a class, a function and a recipe stand for, and every wrong one."""

import copy
import os
import pickle
from dataclasses import replace

import pytest

from scoredistill import Recipe, recipe
from scoredistill.estimators import MSD, SDS, VSD, Estimator
from scoredistill.recipe import OwnMethod, check_method, named, recipe_of, versioned
from scoredistill.schedule import VE, VP
from scoredistill.times import Bandwidth, Linear, Ticks, Uniform

FILE = """
from dataclasses import dataclass

from scoredistill import Recipe
from scoredistill.estimators import SDS, Estimator
from scoredistill.times import Linear


@dataclass
class Mine(Estimator):
    factor: float = 2.0

    def __call__(self, prior, batch, t, rng=None):
        made = SDS()(prior, batch, t, rng)
        return type(made)(self.factor * made.grad)


class Abstract(Estimator):
    pass


def factory():
    return Mine(3.0)


def wrong():
    return 7


def needs(factor):
    return Mine(factor)


SLOW = Recipe(Mine, times=Linear(0.9, 0.1), steps=5, name="slow one", says="with descending t")
ready = SDS()
number = 7
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_name_in_a_file_is_a_method(file):
    for name, factor in (("Mine", 2.0), ("factory", 3.0), ("SLOW", 2.0)):
        found = named(f"{file}:{name}")
        assert isinstance(found, OwnMethod)
        assert found.recipe.make().factor == factor
    assert named(f"{file}:Mine") == "Mine"
    assert named(f"{file}:SLOW") == "slow one"
    assert isinstance(named(f"{file}:ready").recipe.make(), Estimator)


def test_python_gives_the_object_itself():
    for given, name in ((SDS, "SDS"), (Recipe(MSD, name="x"), "x"), (lambda: SDS(), "own"), (Recipe(VSD), "VSD")):
        assert named(given) == name
        assert named(named(given)) is not None
    made = Recipe(VSD())
    assert made.make() is not made.make()  # what an estimator learns stays in its run
    assert named("sds") == "sds"
    assert not isinstance(named("sds"), OwnMethod)


def test_a_method_is_the_content_of_its_file(file):
    before = named(f"{file}:Mine")
    assert named(f"{file}:Mine").recipe == before.recipe  # executed once
    file.write_text(FILE.replace("2.0", "4.0"))
    after = named(f"{file}:Mine")
    assert after.recipe.make().factor == 4.0
    assert before.recipe.make().factor == 2.0
    assert before == after
    assert before.sha256 != after.sha256
    assert versioned(before) != versioned(after)
    assert versioned(before).startswith("Mine-")
    assert repr(before) != repr(after)
    assert versioned("sds") == "sds"


def test_methods_reach_other_processes(file, monkeypatch):
    """Their classes are in no importable module: the file is read again."""
    method = named(f"{file}:Mine")
    text = pickle.dumps(method)
    recipe._module.cache_clear()
    again = pickle.loads(text)
    assert (again, again.sha256, again.recipe.make().factor) == ("Mine", method.sha256, 2.0)
    assert copy.deepcopy(method) is method
    file.write_text(FILE + "\n")
    with pytest.raises(ValueError, match=r"mine\.py changed during the work"):
        pickle.loads(text)
    kept = pickle.loads(pickle.dumps(named(Recipe(SDS, steps=3))))
    assert (kept, kept.recipe.steps) == ("SDS", 3)


def test_modules_beside_the_file_can_be_imported(tmp_path):
    (tmp_path / "beside_it.py").write_text("from scoredistill.estimators import SDS as Other\n")
    (tmp_path / "mine.py").write_text("from beside_it import Other\n")
    assert named(f"{tmp_path}/mine.py:Other") == "Other"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mine.py", r"names no method: write FILE\.py:NAME, such as .*mine\.py:Mine"),
        ("mine.py:", r"has no name after the colon: its methods are Abstract, Mine, SLOW, ready"),
        ("mine.py:Nine", r"mine\.py has no Nine: its methods are Abstract, Mine, SLOW, ready"),
        ("other.py:Mine", r"there is no file .*other\.py: check the path"),
        (".:Mine", None),
        ("mine.py:number", r"mine\.py:number: a method is a class of estimators, a function .* not int"),
        ("mine.py:wrong", r"mine\.py:wrong: wrong makes a int, which is no estimator: derive its class"),
        ("mine.py:needs", r"mine\.py:needs: needs needs arguments .*'factor'.*: give a function without any"),
        ("mine.py:Abstract", r"mine\.py:Abstract: cannot make the estimator: TypeError: .*abstract"),
        ("mine.py:Recipe", r"mine\.py:Recipe: Recipe needs arguments .*'estimator'"),
    ],
)
def test_a_wrong_name_is_one_sentence(file, name, sentence):
    if sentence is None:
        assert named(name) == name  # no file of Python: the task says which methods there are
        return
    with pytest.raises(ValueError, match=sentence) as caught:
        named(f"{file.parent}/{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a = 1\nb = a +\n", r"cannot import mine\.py, line 2: SyntaxError"),
        ("a = 1\n\nb = nothing\n", r"cannot import mine\.py, line 3: NameError: name 'nothing'"),
        ("import no_such_module\n", r"cannot import mine\.py, line 1: ModuleNotFoundError: .*no_such_module"),
        ("raise SystemExit(3)\n", r"cannot import mine\.py, line 1: SystemExit: 3"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path, content, sentence):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        named(f"{tmp_path}/mine.py:Mine")


def test_names_of_other_methods_are_refused():
    check_method(named(SDS), ["sds"])
    with pytest.raises(ValueError, match="sds has the name of another method, sds"):
        check_method(named(Recipe(SDS, name="sds")), ["sds"])
    with pytest.raises(
        ValueError, match=r"unknown method 'x' for scenes: use one of a, b, or your own as FILE\.py:NAME"
    ):
        check_method("x", ["a", "b"], " for scenes")
    assert recipe_of("a", {"a": 1}, lambda own: own.steps) == 1
    assert recipe_of(named(Recipe(SDS, steps=3)), {"a": 1}, lambda own: own.steps) == 3


def test_a_recipe_makes_the_time_schedule_of_a_run():
    usual = lambda schedule, seed: Uniform(seed=seed)
    assert Recipe(SDS).schedule(usual)(VP(), 3) == Uniform(seed=3)
    assert Recipe(SDS, times=Uniform(0.1, 0.2)).schedule(usual)(VP(), 3) == Uniform(0.1, 0.2, 3)
    assert Recipe(SDS, times=Linear()).schedule(usual)(VP(), 3) == Linear()
    plain = lambda index, steps: 0.5
    assert Recipe(SDS, times=plain).schedule(usual)(VP(), 3) is plain
    made = Recipe(MSD, bandwidth=(2.0, 0.5)).schedule(usual)(VE(0.01, 10.0), 0)
    assert isinstance(made, Bandwidth)
    assert [VE(0.01, 10.0).time_of(r) for r in (2.0, 0.5)] == pytest.approx([made(0, 5), made(4, 5)])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"times": Linear(), "bandwidth": (2.0, 1.0)}, "leave out times or bandwidth"),
        ({"bandwidth": (0.0, 1.0)}, "bandwidth must be two positive numbers"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"guidance": -1.0}, "guidance must be at least 0"),
        ({"lr": float("nan")}, "lr must be at least 0, not nan"),
        ({"through": "codec"}, "unknown through 'codec': use one of encoder, decoder"),
        ({"name": "a/b"}, "a method's name has up to 40 letters"),
    ],
)
def test_an_impossible_recipe_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(Recipe(SDS), **wrong)


def test_what_runs_is_what_was_hashed(tmp_path, monkeypatch):
    """Python's cache of bytecode tells a file's versions apart by size and whole seconds only."""
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    file, steps = tmp_path / "mine.py", []
    for n in (3, 4):
        file.write_text(
            f"from scoredistill import Recipe\nfrom scoredistill.estimators import SDS\nM = Recipe(SDS, steps={n})\n"
        )
        os.utime(file, (1, 1))
        steps.append(named(f"{file}:M").recipe.steps)
    assert steps == [3, 4]
    assert not (tmp_path / "__pycache__").exists()


def test_the_seed_of_a_run_reaches_rounded_times():
    assert recipe.seeded(Ticks(Uniform()), 3) == Ticks(Uniform(seed=3))
    assert recipe.seeded(Linear(0.9, 0.1), 3) == Linear(0.9, 0.1)


def test_modules_beside_a_file_are_its_own(tmp_path):
    for folder, n in (("one", 3), ("two", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helper.py").write_text(f"STEPS = {n}\n")
        text = "import helper\nfrom scoredistill import Recipe\nfrom scoredistill.estimators import SDS\n"
        (tmp_path / folder / "mine.py").write_text(text + "M = Recipe(SDS, steps=helper.STEPS)\n")
    found = [named(f"{tmp_path / folder / 'mine.py'}:M").recipe.steps for folder in ("one", "two")]
    assert found == [3, 4]
