"""Where a Tensor becomes plain numbers: asked for, it does; unasked, its graph would end in silence: it is refused."""

import io
import math
import operator
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from error_texts import raises
from numpy.testing import assert_array_equal

import minirnn as mr
from minirnn.autograd.modes import switched

CUT = (
    "a Tensor of shape {} requires a gradient, and would become plain numbers here, where it ends, without being "
    "asked: use minirnn's functions (mr.stack joins a list), or .numpy() or .detach() if none should flow"
)


def given():
    """Make what the lines below speak of: a number, a vector, lists of such, an array, and np.asarray by a name."""
    s, w = mr.Tensor(2.0, requires_grad=True), mr.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    model = type("Model", (), {"w": w, "losses": [s * 3, s * 5]})
    return {
        **{"s": s, "w": w, "a": np.zeros(3), "losses": [s * 3, s * 5], "rows": [w * 3, w * 5], "model": model},
        **{"np": np, "math": math, "io": io, "mr": mr, "asarray": np.asarray, "setitem": operator.setitem},
    }


UNASKED = """
np.mean([w * 3, w * 5])
np.sum(losses)
np.max(losses)
np.array(losses)
np.array([w * 3, w * 5])
np.array([w], dtype=object)
np.asarray(losses)
np.asarray(model.losses)
np.asarray(rows)
np.asarray([w * 3, w * 5], dtype=float)
np.asarray([x * 2 for x in rows])
np.asarray((w,))
np.float32(rows)
np.dot(losses, losses)
np.linalg.norm(losses)
np.linalg.norm(rows)
np.exp(rows)
np.add.reduce(losses)
np.where([True, False], losses, 0)
np.full(3, s)
np.full(3, s, dtype=float)
np.vectorize(lambda x: x * 2)(losses)
np.vectorize(lambda x: s)([1, 2])
np.apply_along_axis(lambda row: s, 0, np.eye(3))
np.copyto(a, w)
np.put(a, [0, 1, 2], w)
np.place(a, [True, False, True], w)
np.putmask(a, [True, False, True], w)
np.put_along_axis(a, np.arange(3), w, 0)
np.fill_diagonal(a.reshape(1, 3), s)
np.fromiter(losses, float)
np.c_[w, w]
np.random.default_rng(0).normal(w)
a.fill(s)
a.put([0], s)
a.dot(w)
a + [s, s, s]
setitem(a, 0, s)
a[0] = s
a[:] = w
a[1:] = losses
a[[0, 1]] = losses
np.zeros(3, int)[0] = s
list(map(np.asarray, rows))
mr.Tensor([[w]])
mr.LSTMLayer(1, 2)([[[s]]])
""".strip().split("\n")


@pytest.mark.parametrize("line", UNASKED)
def test_unasked_it_is_refused_and_nothing_is_written(line):
    names = given()
    with pytest.raises((TypeError, ValueError)) as caught:
        exec(line, names)
    said = str(caught.value.__cause__ or caught.value)  # numpy says its own of what fails while it sets an entry
    shapes = [CUT.format(shape) for shape in ("()", "(3,)")]
    assert said in shapes or re.match(r"np\.\w+: no derivative is known for it.* t.detach\(\) or t.numpy\(\)", said)
    assert_array_equal(names["a"], 0)
    with mr.no_grad():
        exec(line, given())
    with mr.no_grad(), switched(on=1), pytest.raises((TypeError, ValueError)):
        exec(line, given())


def test_what_is_refused_has_a_way_that_keeps_the_gradient():
    w = given()["w"]
    with raises(TypeError, CUT.format("(3,)")):
        np.mean([w * 3, w * 5])
    np.sum(np.mean(mr.stack([w * 3, w * 5]))).backward()
    assert_array_equal(w.grad, np.full(3, 8 / 6, np.float32))


ASKED = """
np.asarray(w)
np.asarray(w, np.float64)
np.asarray(a=w)
np.asarray(model.w)
np.asarray(rows[0] * 2).sum()
np.asanyarray(w)
np.ascontiguousarray(w)
np.array(w)
np.array(w, dtype=float, copy=True)
np.float32(w)
np.float64(s)
asarray(w)
[np.asarray(row) for row in rows]
float(s)
int(s)
list(map(float, losses))
math.exp(s)
'%.3f' % s
f'{s:.3f} {w} {rows!r}'
np.array2string(w)
np.testing.assert_allclose(w, [1, 2, 3])
np.testing.assert_allclose(rows, [[3, 6, 9], [5, 10, 15]])
np.save(io.BytesIO(), w)
np.array_equal(w, w)
np.shape(w)
""".strip().split("\n")


@pytest.mark.parametrize("line", ASKED)
def test_asked_for_they_are_plain_numbers(line):
    names = given()
    for _ in range(20):  # Python rewrites what runs often
        assert not isinstance(eval(line, names), mr.Tensor)


def test_asserts_see_what_a_function_of_ones_own_sees():
    s, w, losses = (given()[name] for name in ("s", "w", "losses"))
    assert np.asarray(w).sum() == 6  # pytest rewrites these
    assert float(s) == int(s) == 2

    def convert(x):
        return np.asarray(x, dtype=float)

    for _ in range(20):
        assert_array_equal(convert(w), [1, 2, 3])
        with raises(TypeError, CUT.format("()")):
            convert(losses)


def test_drawing_takes_one_tensor_or_a_list():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    _, axes = pyplot.subplots()
    s, w, losses = (given()[name] for name in ("s", "w", "losses"))
    (line,) = axes.plot(w * 2)
    assert_array_equal(line.get_ydata(), [2, 4, 6])
    (line,) = axes.plot(losses)
    assert_array_equal(line.get_ydata(), [6, 10])
    axes.scatter(w, w)
    axes.bar([0, 1, 2], w)
    axes.axhline(s)
    axes.figure.canvas.draw()
    pyplot.close(axes.figure)


def test_without_positions_in_the_code_what_is_asked_for_still_goes():
    code = "import test_asked; [eval(line, test_asked.given()) for line in test_asked.ASKED]"
    here = pathlib.Path(__file__).parent
    paths = [str(here), str(here.parent), str(pathlib.Path(mr.__file__).parents[1])]
    code = f"import sys; sys.path[:0] = {paths}; {code}"
    subprocess.run([sys.executable, "-X", "no_debug_ranges", "-c", code], check=True)


# --- operands that mean something of their own ------------------------------------------------------------------------

MASKED = np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
NO_MASKS = (
    "{} must not be masked, since nothing here knows masks: take x.filled(…) or x.data, and keep the mask for "
    "minirnn.where, or give the layer and the loss lengths="
)
OPERATORS = (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul, operator.lt)


@pytest.mark.parametrize("op", [*OPERATORS, operator.eq, np.maximum, np.ma.multiply])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_masked_array_is_refused_on_either_side(op, requires_grad):
    w = mr.Tensor(np.ones(3), requires_grad=requires_grad)
    left = "numpy.ma: got a Tensor of shape (3,), which does not go with masks: take x.filled(…) or x.data of the "
    for pair in ((w, MASKED), (MASKED, w)):
        with pytest.raises(TypeError) as caught:
            op(*pair)
        assert str(caught.value) == NO_MASKS.format("operand") or str(caught.value).startswith(left)


layer, w = mr.RecurrentLayer(3, 2, rng=0), mr.Tensor(np.ones(3), requires_grad=True)
AT_DOORS = {
    "Tensor: data": lambda m: mr.Tensor(m),
    "where: condition": lambda m: mr.where(m > 2, w, 0.0),
    "operand": lambda m: mr.where([True, False, True], w, m),
    "RecurrentLayer: x": lambda m: layer(m.reshape(1, 1, 3)),
    "RecurrentLayer: lengths": lambda m: layer(np.ones((3, 3, 3)), lengths=m.astype(int)),
    "mse: targets": lambda m: mr.losses.mse(w, m),
    "cross_entropy: ids": lambda m: mr.losses.cross_entropy(np.ones((3, 4)), m.astype(int)),
    "binary_cross_entropy: targets": lambda m: mr.losses.binary_cross_entropy(w, m / 3),
    "concatenate: tensors[1]": lambda m: mr.concatenate([w, m]),
    "Embedding: ids": lambda m: mr.Embedding(4, 2, rng=0)(m.astype(int)),
    "Tensor.grad": lambda m: setattr(w, "grad", m),
    "Tensor: index": lambda m: w[m > 1],
}


@pytest.mark.parametrize("argument", AT_DOORS)
def test_and_at_every_door_by_itself_or_in_a_list(argument):
    with raises(TypeError, NO_MASKS.format(argument)):
        AT_DOORS[argument](MASKED)
    with raises(TypeError, NO_MASKS.format("Tensor: data")):
        mr.Tensor([MASKED, MASKED])


def test_a_matrix_a_series_and_a_sparse_array_are_refused_as_operands_too():
    w = mr.Tensor(np.ones((2, 2)), requires_grad=True)
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(np.eye(2))
    for of in (operator.mul, operator.matmul, operator.add):
        for pair in ((w, matrix), (matrix, w)):
            with raises(
                TypeError, "operand must be an array, got a matrix, whose * is another: try np.asarray(matrix)"
            ):
                of(*pair)
    assert mr.Tensor(matrix).shape == (2, 2)
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    for other, way in ((pandas.DataFrame(np.eye(2)), "to_numpy"), (sparse.csr_array(np.eye(2)), "toarray")):
        for of in (operator.mul, operator.matmul):
            with raises(TypeError, f"operand must be an array, got a {type(other).__name__}: try its {way}()"):
                of(w, other)
            with pytest.raises(TypeError, match=r"to_numpy\(\)|\.numpy\(\)"):
                of(other, w)
