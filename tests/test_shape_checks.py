"""What tests check at run time: shapes, types, and both in nested functions, made once or many times."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from jaxtyping import Float
from torch import Tensor, zeros

from scoredistill.schedule import VP
from shape_checks import _checked, check


def checked(function):
    return _checked(typechecker=check)(function)


@checked
def paired(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> Float[Tensor, "n 2"]:
    return zeros(len(a), 2 if a.sum() == 0 else 3)


def nested(count: int) -> Any:
    @checked
    def padded(x: Float[Tensor, " n"], more: int = 1) -> Float[Tensor, " n+{more}"]:
        return zeros(len(x) + count)

    return padded


def test_arguments_and_results_have_the_shapes_that_are_written():
    assert paired(zeros(3), zeros(3)).shape == (3, 2)
    with pytest.raises(Exception, match="parameters of"):
        paired(zeros(3), zeros(4))
    with pytest.raises(Exception, match="return value of"):
        paired(zeros(3) + 1, zeros(3))


def test_forms_that_have_passed_say_nothing_of_others():
    """Each call after the first that passes differs from it in one thing that an annotation names."""
    good = lambda **more: (
        {"rows": {"a": zeros(3)}, "pair": (zeros(2), zeros(2)), "many": [zeros(1)], "way": "up"} | more
    )
    for _ in range(2):
        assert mixed(**good()) == 1
        for wrong in (
            {"rows": {"a": zeros(3, 1)}},
            {"rows": {"a": zeros(3).int()}},
            {"rows": {"a": "zeros"}},
            {"pair": (zeros(2), zeros(3))},
            {"pair": (zeros(2),)},
            {"pair": [zeros(2), zeros(2)]},
            {"many": [zeros(1, 1)]},
            {"many": [zeros(1, 1)] * 1000},
            {"many": zeros(1)},
            {"way": "left"},
            {"count": "two"},
        ):
            with pytest.raises(Exception, match="parameters of"):
                mixed(**good(**wrong))
    with pytest.raises(Exception, match="return value of"):
        mixed(**good(), result="one")


@checked
def mixed(
    rows: dict[str, Float[Tensor, " n"]],
    pair: tuple[Float[Tensor, " m"], Float[Tensor, " m"]],
    many: "list[Float[Tensor, ' k']]",
    way: Literal["up", "down"],
    count: int = 1,
    result: Any = 1,
) -> int:
    return result


def test_values_named_in_shapes_are_compared_each_time():
    assert len(counted(zeros(2), 2)) == 2
    with pytest.raises(Exception, match="Type-check error"):
        counted(zeros(2), 3)


@checked
def counted(x: Float[Tensor, " n"], n: int) -> Float[Tensor, " {n}"]:
    return x


def test_the_init_of_a_dataclass_is_checked():
    assert Pair(zeros(2), zeros(2)).a.shape == (2,)
    with pytest.raises(Exception, match="Type-check error"):
        Pair(zeros(2), zeros(3))


@checked
@dataclass(frozen=True)
class Pair:
    a: Float[Tensor, " n"]
    b: Float[Tensor, " n"]


def test_types_without_shapes_are_checked():
    with pytest.raises(Exception, match="int"):
        checked(_halved)("two")
    assert checked(_halved)(2) == 1


def _halved(n: int) -> int:
    return n // 2


def test_nested_functions_of_one_signature_keep_their_own_bodies():
    one, two = nested(1), nested(2)
    assert len(one(zeros(3))) == 4
    assert len(two(zeros(3), 2)) == 5
    assert len(two(zeros(3), more=2)) == 5
    for wrong in (lambda: two(zeros(3)), lambda: one(zeros(3), 2), lambda: one(zeros(3, 3))):
        with pytest.raises(Exception, match="Type-check error"):
            wrong()


def test_the_package_is_checked():
    with pytest.raises(Exception, match="Type-check error"):
        VP()(zeros(2, 2).tolist())
