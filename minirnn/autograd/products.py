"""Products of several Tensors: `einsum`, of which each product of two is one of matrices, and what is made of it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from minirnn.arguments import describe
from minirnn.autograd.functions import (
    FUNCTIONS,
    _all_alike,
    _pair,
    _tensor,
    expand_dims,
    matmul,
    reshape,
    sum,
    transpose,
)
from minirnn.autograd.more import _made, flatten, moveaxis

if TYPE_CHECKING:
    from minirnn.autograd.tensor import Tensor


def dot(a: Any, b: Any) -> "Tensor":
    """Multiply as `numpy.dot` does: a sum over the last axis of a and the last but one, or only one, of b."""
    a, b = (_tensor(t, f"dot: {name}") for t, name in zip(_pair(a, b, "dot"), "ab", strict=True))
    if not a.ndim or not b.ndim:
        return _made(a * b)
    return matmul(a, b) if b.ndim <= 2 or a.ndim == 1 else tensordot(a, b, (-1, -2))


def outer(a: Any, b: Any) -> "Tensor":
    """Multiply each entry of a with each of b: (…) and (…) flattened, in a matrix."""
    return expand_dims(flatten(a), 1) * flatten(b)


def tensordot(a: Any, b: Any, axes: Any = 2) -> "Tensor":
    """Sum products over axes of both: the last of a and the first of b, so many; or (axes of a, axes of b)."""
    a, b = (_tensor(t, f"tensordot: {name}") for t, name in zip(_pair(a, b, "tensordot"), "ab", strict=True))
    if isinstance(axes, int | np.integer):
        axes = range(a.ndim - axes, a.ndim), range(axes)
    over_a, over_b = (normalize_axis_tuple(of, t.ndim, "tensordot") for t, of in zip((a, b), axes, strict=True))
    if len(over_a) != len(over_b):
        raise ValueError(f"tensordot: axes must be as many of a as of b, got {len(over_a)} and {len(over_b)}")
    of_a = list(range(a.ndim))
    of_b = [of_a[over_a[over_b.index(i)]] if i in over_b else a.ndim + i for i in range(b.ndim)]
    output = [i for i in of_a if i not in over_a] + [i for i in of_b if i >= a.ndim]
    return _einsum([a, b], [of_a, of_b], output, "tensordot")


def einsum(subscripts: str, *operands: Any) -> "Tensor":
    """Sum products in Einstein's notation, as `numpy.einsum`: ``einsum("tnh,hk->tnk", x, w)``.

    Operands are multiplied from left to right, two at a time, by matrix products. Axes of the dots may be 1 where
    another operand's are more.
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: subscripts must be a str, got {describe(subscripts)}: try einsum('ij,jk->ik', a, b)")
    tensors = _all_alike(operands, "einsum")
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(tensors):
        raise ValueError(f"einsum: {subscripts!r} is for {len(terms)} operands, got {len(tensors)}")
    meant = [t.ndim - len(term.replace("...", "")) for t, term in zip(tensors, terms, strict=True)]  # by the dots
    extra = max((n for n, term in zip(meant, terms, strict=True) if "..." in term), default=0)
    wild = "".join(map(chr, range(0xE000, 0xE000 + extra)))  # letters that nobody types
    terms = [term.replace("...", wild[extra - n :]) for n, term in zip(meant, terms, strict=True)]
    letters = "".join(terms)
    once = "".join(sorted(c for c in set(letters) - set(wild) if letters.count(c) == 1))
    output = output.replace("...", wild) if arrow else wild + once
    if not set(wild) <= set(output):
        raise ValueError(f"einsum: the output of {subscripts!r} must have the dots of the inputs, ...")
    if not set(output) <= set(letters) or len(set(output)) < len(output):
        raise ValueError(f"einsum: the output of {subscripts!r} must name letters of the inputs, each once")
    for c in wild:  # an axis of 1 is as good as none where another operand has more
        here = [(k, terms[k].index(c)) for k in range(len(terms)) if c in terms[k]]
        if max(tensors[k].shape[i] for k, i in here) > 1:
            for k, i in [(k, i) for k, i in here if tensors[k].shape[i] == 1]:
                tensors[k], terms[k] = tensors[k][(slice(None),) * i + (0,)], terms[k].replace(c, "")
    return _einsum(tensors, terms, output, "einsum")


def _einsum(tensors: "Sequence[Tensor]", terms: Sequence[Sequence[Any]], output: Sequence[Any], name: str) -> "Tensor":
    sizes: dict[Any, int] = {}
    for k, (t, term) in enumerate(zip(tensors, terms, strict=True)):
        if len(term) != t.ndim or any(sizes.setdefault(c, n) != n for c, n in zip(term, t.shape, strict=True)):
            shown = ", ".join(str(t.shape) for t in tensors)
            raise ValueError(f"{name}: operand {k} has another number of axes or another size, of shapes {shown}")
    done, of = _diagonal(tensors[0], list(terms[0]))
    for k, (t, term) in enumerate(zip(tensors[1:], terms[1:], strict=True), 2):
        keep = {*output, *(c for later in terms[k:] for c in later)}
        done, of = _contracted(done, of, *_diagonal(t, list(term)), keep, sizes)
    done, of = _summed(done, of, set(output))
    return transpose(done, [of.index(c) for c in output]) if of != list(output) else done


def _diagonal(x: "Tensor", of: list[Any]) -> "tuple[Tensor, list[Any]]":
    """Take the diagonal of axes that have one letter."""
    while twice := [c for c in of if of.count(c) > 1]:
        i, j = (k for k, c in enumerate(of) if c == twice[0])
        x = moveaxis(x, (i, j), (0, 1))
        of = [twice[0], *(c for k, c in enumerate(of) if k not in (i, j))]
        along = np.arange(len(x))
        x = x[along, along]
    return x, of


def _summed(x: "Tensor", of: list[Any], keep: set[Any]) -> "tuple[Tensor, list[Any]]":
    """Sum over the axes whose letters nobody needs."""
    axes = tuple(k for k, c in enumerate(of) if c not in keep)
    return (sum(x, axes), [c for c in of if c in keep]) if axes else (x, of)


def _contracted(
    a: "Tensor", of_a: list[Any], b: "Tensor", of_b: list[Any], keep: set[Any], sizes: dict[Any, int]
) -> "tuple[Tensor, list[Any]]":
    """Multiply two operands, summing over the letters that both have and nobody needs, by one matrix product."""
    a, of_a = _summed(a, of_a, keep | set(of_b))
    b, of_b = _summed(b, of_b, keep | set(of_a))
    both = [c for c in of_a if c in of_b and c in keep]
    inner = [c for c in of_a if c in of_b and c not in keep]
    rows, columns = [c for c in of_a if c not in of_b], [c for c in of_b if c not in of_a]

    def matrices(x: "Tensor", of: list[Any], first: list[Any], second: list[Any]) -> "Tensor":
        order = [of.index(c) for c in (*both, *first, *second)]
        shape = *(sizes[c] for c in both), *(math.prod(sizes[c] for c in part) for part in (first, second))
        return reshape(transpose(x, order) if order else x, shape)

    product = matmul(matrices(a, of_a, rows, inner), matrices(b, of_b, inner, columns))
    made = [*both, *rows, *columns]
    return reshape(product, [sizes[c] for c in made]), made


__all__ = ["dot", "einsum", "outer", "tensordot"]


def _numpy_einsum(subscripts: str, *operands: Any, optimize: Any = False) -> "Tensor":
    return einsum(subscripts, *operands)  # whose order is one way of many to the same numbers


FUNCTIONS.update({name: globals()[name] for name in __all__}, einsum=_numpy_einsum)
