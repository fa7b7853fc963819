"""What tests check at run time: shapes, types, and both in nested functions, made once or many times."""

from typing import Any

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
