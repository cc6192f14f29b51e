"""Arrays refilled between forward and backward, as a loop with one buffer does: what is copied, and what is kept."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minirnn as mr

T, N, D, H = 4, 3, 2, 5
F64 = {"dtype": np.float64, "rng": 0}


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape)


IDS, LENGTHS, RESET = np.array([0, 2, 2, 1]), np.array([1, 4, 2]), normal(T, N) > 0
w, v = mr.Tensor(normal(4, 3), requires_grad=True), mr.Tensor(normal(T, N, 2), requires_grad=True)
embedding, linear = mr.Embedding(4, 3, **F64), mr.Linear(D, 3, **F64)
losses = mr.losses

COPIED = {  # what is made of the arrays, the arrays
    "an index": (lambda i: w[i], IDS),
    "two indices": (lambda i, j: w[i, j], IDS, np.array([1, 2, 2, 1])),
    "a mask as an index": (lambda m: w[m], normal(4, 3) > 0),
    "a Tensor as an index": (lambda i: w[mr.Tensor(i)], IDS),
    "take": (lambda i: mr.take(w, i, axis=0), IDS),
    "the condition of where": (lambda c: mr.where(c, w * w, 0.0), normal(4, 3) > 0),
    "ids of an embedding": (embedding, IDS),
    "cross_entropy's ids": (lambda i: losses.cross_entropy(w * 1.0, i), IDS),
    "cross_entropy's ids and lengths": (lambda i, n: losses.cross_entropy(v * 1.0, i, n), RESET.astype(int), LENGTHS),
    "binary_cross_entropy's targets": (lambda t: losses.binary_cross_entropy(w * 1.0, t), abs(normal(4, 3)) / 4),
    "mse's targets": (lambda t: losses.mse(w * 1.0, t), normal(4, 3)),
    "mse's targets and lengths": (lambda t, n: losses.mse(v * 1.0, t, n), normal(T, N, 2), LENGTHS),
}
KEPT = {
    "an operand": (lambda a: w * a, normal(4, 3)),
    "a factor of a product": (lambda a: a @ w, normal(2, 4)),
    "x of Linear": (linear, normal(N, D)),
}
for kind in (mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer):
    for settings in ({}, {"backend": "graph"}, {"reverse": True}, {"batch_first": True}, {"remat": 2}):
        layer = kind(D, H, **settings, **F64)
        x, reset = (np.swapaxes(a, 0, layer.batch_first) for a in (normal(T, N, D), RESET))

        def state(h, pair=kind is mr.LSTMLayer):
            return (h, h) if pair else h

        said = f"{kind.__name__}{settings or ''}: "
        of_arrays = (lambda x, h, f=layer, s=state: f(x, s(h)).outputs, x, normal(N, H))
        (KEPT if layer.remat else COPIED)[said + "x and the state"] = of_arrays
        COPIED |= {
            said + "lengths": (lambda n, f=layer, x=x: f(x, lengths=n).outputs, LENGTHS),
            said + "reset": (lambda r, f=layer, x=x: f(x, reset=r).outputs, reset),
        }
layer, x = mr.GRULayer(D, H, **F64), normal(T, N, D)
both = mr.Bidirectional(layer, mr.GRULayer(D, H, reverse=True, **F64))
COPIED |= {
    "x of two directions": (lambda x, f=both: f(x)[0], x),
    "x_t of a step": (lambda x, f=layer: f.step(x), normal(N, D)),
}


def gradients(case, refill):
    """Go forward, refill the arrays or not, and go back."""
    make, *arrays = case
    arrays = [array.copy() for array in arrays]
    loss = (make(*arrays) ** 2).sum()
    for array in arrays if refill else []:
        array[...] = ~array if array.dtype == bool else array[::-1].copy() * 2 + 1 if array.dtype.kind == "f" else 1
    leaves = [w, v, *(p for f in (embedding, linear) for p in f.parameters())]
    layers = [f for f in getattr(make, "__defaults__", None) or () if isinstance(f, mr.Module)]
    leaves += [p for f in layers for p in f.parameters()]
    for leaf in leaves:
        leaf.grad = None
    loss.backward()
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


@pytest.mark.parametrize("what", COPIED)
def test_what_is_copied_may_be_refilled(what):
    expected, found = gradients(COPIED[what], False), gradients(COPIED[what], True)
    assert expected
    for e, f in zip(expected, found, strict=True):
        assert_array_equal(f, e)


@pytest.mark.parametrize("what", KEPT)
def test_what_is_kept_is_read_again_as_the_docstring_of_tensor_says(what):
    """None of these is what one wants, but a copy would cost 10 to 30 % of the time, or the memory that remat saves."""
    pairs = zip(gradients(KEPT[what], False), gradients(KEPT[what], True), strict=True)
    assert any((e != f).any() for e, f in pairs)
    assert "hand over copies" in " ".join(mr.Tensor.__doc__.split())
    assert "kept, not copied" in " ".join(mr.Linear.forward.__doc__.split())


def test_within_no_grad_nothing_is_copied():
    x = np.ones((T, N, D))
    with mr.no_grad():
        assert layer._given(x, "x") is x
    assert layer._given(x, "x") is not x
