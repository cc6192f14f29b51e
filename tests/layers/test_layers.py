"""Linear, Embedding, Dropout, Sequential."""

import copy
import itertools
import math

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn.layers.plain import Dropout

# --- Linear -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (4, 3), (5, 4, 3), (2, 5, 4, 3), (0, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_x_W_plus_b_on_the_last_axis(shape, bias):
    layer = mr.Linear(3, 2, bias, dtype=np.float64, rng=0)
    if bias:
        layer.bias.data = [0.5, -0.25]
    x = np.random.default_rng(0).standard_normal(shape)
    y = layer(x)
    assert y.shape == (*shape[:-1], 2)
    expected = np.einsum("...i,ij->...j", x, layer.weight.data) + ([0.5, -0.25] if bias else 0)
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (5, 4, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_every_gradient_by_central_differences(shape, bias):
    layer = mr.Linear(3, 2, bias, dtype=np.float64, rng=0)
    x = mr.Tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True)
    assert mr.gradcheck(lambda x, *_: layer(x) ** 2, [x, *layer.parameters()])


@pytest.mark.peer
@pytest.mark.parametrize(("bias", "shape"), list(itertools.product([True, False], [(3,), (4, 3), (5, 4, 3)])))
def test_linear_is_torchs(bias, shape, torch):
    layer = mr.Linear(3, 2, bias, dtype=np.float64, rng=0)
    other = torch.nn.Linear(3, 2, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        other.weight.copy_(torch.from_numpy(layer.weight.data.T.copy()))
        if bias:
            layer.bias.data = [0.5, -0.25]
            other.bias.copy_(torch.from_numpy(layer.bias.data))
    data = np.random.default_rng(0).standard_normal(shape)
    x, tx = mr.Tensor(data, requires_grad=True), torch.from_numpy(data.copy()).requires_grad_()
    y, ty = layer(x), other(tx)
    (y * y).sum().backward()
    (ty * ty).sum().backward()
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(x.grad, tx.grad.numpy(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(layer.weight.grad, other.weight.grad.numpy().T, rtol=0, atol=1e-12)
    if bias:
        np.testing.assert_allclose(layer.bias.grad, other.bias.grad.numpy(), rtol=0, atol=1e-12)


def test_linear_starts_with_glorot_and_zeros_and_counts_as_it_should():
    layer = mr.Linear(20, 5, dtype=np.float64, rng=3)
    np.testing.assert_array_equal(layer.weight.data, mr.init.glorot_uniform((20, 5), np.random.default_rng(3)))
    np.testing.assert_array_equal(layer.bias.data, np.zeros(5))
    assert layer.count_params() == 105
    bare = mr.Linear(20, 5, bias=False)
    assert bare.bias is None
    assert bare.count_params() == 100
    assert (repr(layer), repr(bare)) == ("Linear(20, 5)", "Linear(20, 5, bias=False)")
    np.testing.assert_array_equal(mr.Linear(3, 3, initializer="identity").weight.data, np.eye(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.float32, np.float64, np.int64, np.bool_, list])
def test_linear_casts_what_comes_in(given, dtype):
    layer = mr.Linear(3, 2, dtype=dtype, rng=0)
    x = np.eye(3)[:2]
    y = layer(x.tolist() if given is list else x.astype(given))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.numpy(), layer(x.astype(dtype)).numpy())
    assert mr.Linear(1, 1, initializer="ones", dtype=np.float64)([0.1]).item() == 0.1  # a list keeps every digit
    t = mr.Tensor(np.ones((1, 3)), requires_grad=True)
    layer(t).sum().backward()
    assert t.grad.dtype == np.float64
    assert layer.weight.grad.dtype == layer.bias.grad.dtype == dtype


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        ((0, 2), {}, ValueError, "Linear: in_features must be an int ≥ 1, got 0: try 1 or more"),
        ((3, 2.0), {}, TypeError, "Linear: out_features must be an int ≥ 1, got 2.0 (float): try 2"),
        ((3, 2, 5), {}, TypeError, "Linear: bias must be True or False, got 5 (int)"),
        (
            (3, 2),
            {"dtype": "float16"},
            TypeError,
            "Linear: dtype must be numpy.float32 or numpy.float64, got 'float16'",
        ),
        (
            (3, 2),
            {"initializer": "identity"},
            ValueError,
            'identity: shape must be square, (H, H), got (3, 2): try "orthogonal", or blocks= for gates',
        ),
        (
            (3, 2),
            {"initializer": "he"},
            ValueError,
            "Linear: initializer must be one of 'glorot', 'orthogonal', 'identity', 'normal', 'zeros', 'ones' or a "
            "callable taking (shape, rng), got 'he' (str): for a number try constant(number), for an array try "
            "lambda shape, rng: array",
        ),
    ],
)
def test_what_linear_is_not_made_of(arguments, options, kind, message):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    with raises(kind, message):
        mr.Linear(*arguments, **options, rng=rng)
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (
            np.zeros((4, 2)),
            ValueError,
            "Linear: x must have shape (…, in=3), got (4, 2): the layer was made with in_features=3",
        ),
        (1.0, ValueError, "Linear: x must have shape (…, in=3), got (): the layer was made with in_features=3"),
        (
            np.full((4, 3), None),
            TypeError,
            "Linear: x must be an array of numbers (bool, int or float), got ndarray of dtype object: try "
            "np.asarray(data, dtype=float)",
        ),
        (
            [mr.Tensor([1.0, 2.0, 3.0])],
            TypeError,
            "Linear: x must be one array or Tensor, got a list that holds Tensors: pass one of them, or join them with "
            "minirnn.stack, which keeps their gradients",
        ),
    ],
)
def test_what_linear_does_not_take(x, kind, message):
    with raises(kind, message):
        mr.Linear(3, 2)(x)


def test_linear_names_what_came_in_within_detect_anomaly():
    x = np.zeros((4, 3))
    x[2, 1] = np.nan
    message = (
        "detect_anomaly: Linear: x holds nan at [2, 1] (1 of 12 entries not finite): look at the data that comes in"
    )
    with mr.detect_anomaly(), raises(mr.AnomalyError, message):
        mr.Linear(3, 2)(x)


# --- Embedding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (4,), (5, 2), (2, 3, 4)])
def test_an_embedding_is_a_product_with_one_hot_vectors(shape):
    layer = mr.Embedding(6, 3, dtype=np.float64, rng=0)
    ids = np.random.default_rng(0).integers(0, 6, shape)
    v = np.random.default_rng(1).standard_normal((*shape, 3))
    found = []
    for one in (lambda: layer(ids), lambda: np.eye(6)[ids] @ layer.weight):
        layer.zero_grad()
        y = one()
        (y * v).sum().backward()
        found.append((y.numpy(), layer.weight.grad))
    assert found[0][0].shape == (*shape, 3)
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


def test_an_id_that_repeats_gets_the_sum_and_one_that_does_not_occur_zero():
    layer = mr.Embedding(4, 2, rng=0)
    layer([[1, 1], [3, 1]]).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad, [[0, 0], [3, 3], [0, 0], [1, 1]])
    assert layer.weight.grad.dtype == np.float32


def test_an_embeddings_gradient_by_central_differences():
    layer = mr.Embedding(5, 2, dtype=np.float64, rng=0)
    assert mr.gradcheck(lambda _: layer([[0, 4, 4], [2, 0, 4]]) ** 2, [layer.weight])


@pytest.mark.parametrize("ids", [[0, 3], np.array([0, 3], np.uint8), mr.Tensor(np.array([0, 3])), (0, 3)])
def test_ids_in_any_form(ids):
    layer = mr.Embedding(4, 2, rng=0)
    np.testing.assert_array_equal(layer(ids).numpy(), layer.weight.data[[0, 3]])
    assert layer.count_params() == 8
    assert repr(layer) == "Embedding(4, 2)"


@pytest.mark.parametrize(
    ("ids", "kind", "message"),
    [
        ([[0, 1], [4, 5]], IndexError, "Embedding: ids must be integers 0 … 3, got 4 at [1, 0]"),
        ([0, -1], IndexError, "Embedding: ids must be integers 0 … 3, got -1 at [1]"),
        (
            [0.0, 1.0],
            TypeError,
            "Embedding: ids must be integers 0 … 3, got an array of shape (2,) and dtype float64: try ids.astype(int)",
        ),
        (
            [True],
            TypeError,
            "Embedding: ids must be integers 0 … 3, got an array of shape (1,) and dtype bool: try ids.astype(int)",
        ),
    ],
)
def test_ids_that_are_none(ids, kind, message):
    layer = mr.Embedding(4, 2, rng=0)
    with raises(kind, message):
        layer(ids)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        ((0, 2), {}, ValueError, "Embedding: num_embeddings must be an int ≥ 1, got 0: try 1 or more"),
        ((4, "2"), {}, TypeError, "Embedding: embedding_dim must be an int ≥ 1, got '2' (str): try 1"),
        (
            (4, 2),
            {"dtype": int},
            TypeError,
            "Embedding: dtype must be numpy.float32 or numpy.float64, got <class 'int'>",
        ),
    ],
)
def test_what_an_embedding_is_not_made_of(arguments, options, kind, message):
    with raises(kind, message):
        mr.Embedding(*arguments, **options)


# --- Dropout ----------------------------------------------------------------------------------------------------------


def mask_of(p, shape, seed):
    """Return the mask that a Dropout with this seed draws first, as its docstring has it: m / (1 − p)."""
    return (np.random.default_rng(seed).random(shape) >= p) / (1 - p)


@pytest.mark.parametrize("shape", [(), (4,), (5, 3), (5, 2, 3)])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_multiplies_with_a_mask_and_so_does_its_gradient(p, shape):
    rng = np.random.default_rng(0)
    x = mr.Tensor(rng.standard_normal(shape), requires_grad=True)
    v, mask = rng.standard_normal(shape), mask_of(p, shape, 3)
    y = Dropout(p, rng=3)(x)
    np.testing.assert_array_equal(y.numpy(), x.numpy() * mask)
    (y * v).sum().backward()
    np.testing.assert_array_equal(x.grad, v * mask)


def test_dropout_by_central_differences_and_to_the_second_order():
    x = mr.Tensor(np.random.default_rng(0).standard_normal((4, 3)), requires_grad=True)
    assert mr.gradcheck(lambda x: Dropout(0.4, rng=1)(x) ** 3, [x])

    def gradient(x):
        return mr.grad((Dropout(0.4, rng=1)(x) ** 3).sum(), x, create_graph=True)[0]

    assert mr.gradcheck(gradient, [x])
    np.testing.assert_allclose(gradient(x).numpy(), 3 * x.numpy() ** 2 * mask_of(0.4, (4, 3), 1) ** 3, rtol=1e-14)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.8])
def test_dropout_drops_its_share_and_keeps_the_expectation(p):
    """Within four standard deviations of the mean of n entries, with a seed that is fixed."""
    n = 200_000
    y = Dropout(p, rng=0)(np.ones((n // 100, 100))).numpy()
    assert set(np.unique(y)) == {0.0, 1 / (1 - p)}
    assert abs((y == 0).mean() - p) < 4 * math.sqrt(p * (1 - p) / n)
    assert abs(y.mean() - 1) < 4 * math.sqrt(p / (1 - p) / n)
    dropped = y == 0
    for one, two in [(dropped[1:], dropped[:-1]), (dropped[:, 1:], dropped[:, :-1])]:  # each entry for itself
        assert abs((one & two).mean() - p * p) < 4 * math.sqrt(p * p / n)


def test_dropout_is_switched_off_for_evaluation_and_on_again():
    layer = Dropout(0.5, rng=0)
    x = mr.Tensor(np.ones((50, 4)), requires_grad=True)
    before = layer.rng.bit_generator.state
    assert layer.eval()(x) is x
    assert isinstance(layer(np.ones(3)), mr.Tensor)
    assert layer.rng.bit_generator.state == before  # nothing is drawn
    assert (layer.train()(x).numpy() == 0).any()
    model = mr.Sequential(mr.Linear(4, 3, rng=0), layer).eval()
    np.testing.assert_array_equal(model(x).numpy(), model(x).numpy())
    with mr.no_grad():  # which is no mode of the model's
        assert (model.train()(x).numpy() == 0).any()


def test_dropouts_masks_differ_from_call_to_call_and_a_seed_repeats_them():
    x = np.ones((6, 7))
    one, two = Dropout(0.5, rng=4), Dropout(0.5, rng=np.random.default_rng(4))
    first = [one(x).numpy() for _ in range(3)]
    for a, b in itertools.combinations(first, 2):
        assert not np.array_equal(a, b)
    for a in first:
        np.testing.assert_array_equal(two(x).numpy(), a)
    assert not np.array_equal(Dropout(0.5)(x).numpy(), Dropout(0.5)(x).numpy())
    rng = np.random.default_rng(0)
    assert Dropout(0.5, rng=rng).rng is rng
    twin = copy.deepcopy(one)
    np.testing.assert_array_equal(twin(x).numpy(), one(x).numpy())  # a copy goes on alike, from a Generator of its own
    assert twin.rng is not one.rng


def test_dropout_leaves_its_input_and_numpys_global_state_alone():
    x = np.ones((6, 7))
    x.flags.writeable = False
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    Dropout(0.5)(x)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(("given", "dtype"), [(np.float32, np.float32), (np.float64, np.float64), (list, np.float32)])
def test_dropout_keeps_the_dtype_and_drops_the_same_entries_in_each(given, dtype):
    x = np.full((5, 3), 3.0)
    y = Dropout(0.3, rng=0)(x.tolist() if given is list else x.astype(given))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.numpy() != 0, mask_of(0.3, (5, 3), 0) != 0)
    t = mr.Tensor(x.astype(dtype), requires_grad=True)
    Dropout(0.3, rng=0)(t).sum().backward()
    assert t.grad.dtype == dtype


def test_dropout_has_no_parameters_and_says_its_p():
    layer = Dropout(np.float32(0.25), rng=0)
    assert layer.parameters() == []
    assert layer.state_dict() == {}
    assert (layer.p, type(layer.p), repr(layer)) == (0.25, float, "Dropout(0.25)")
    assert repr(mr.Sequential(mr.Linear(3, 2), layer)).splitlines()[2] == "  (1): Dropout(0.25)"


DROP = "Dropout: p must be a probability, 0 ≤ p < 1, got"


@pytest.mark.parametrize(
    ("p", "kind", "message"),
    [
        (0, ValueError, "Dropout: p=0 would do nothing: leave it out"),
        (-0.0, ValueError, "Dropout: p=0 would do nothing: leave it out"),
        (1, ValueError, f"{DROP} 1: it is a part, not a percentage"),
        (-0.1, ValueError, f"{DROP} -0.1: try 0.5"),
        (30, ValueError, f"{DROP} 30: it is a part, not a percentage"),
        (math.nan, ValueError, f"{DROP} nan: try 0.5"),
        (True, TypeError, f"{DROP} True (bool): try 0.5"),
        (np.True_, TypeError, f"{DROP} np.True_ (bool): try 0.5"),
        ("0.5", TypeError, f"{DROP} '0.5' (str): try 0.5"),
        (None, TypeError, f"{DROP} None (NoneType): try 0.5"),
        (0.5j, TypeError, f"{DROP} 0.5j (complex): try 0.5"),
        (np.array([0.5]), TypeError, f"{DROP} an array of shape (1,) and dtype float64: try 0.5"),
    ],
)
def test_what_dropout_is_not_made_of(p, kind, message):
    with raises(kind, message):
        Dropout(p, rng=0)


def test_what_is_no_generator_for_dropout():
    with pytest.raises(TypeError, match=r"^rng must be a numpy\.random\.Generator, an int ≥ 0"):
        Dropout(0.5, rng="seed")


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (
            np.zeros((4, 2), int),
            TypeError,
            "Dropout: x must be floats, got an array of shape (4, 2) and dtype int64: try x.astype(numpy.float32); "
            "class ids go through an Embedding first",
        ),
        (
            mr.Tensor(np.array([True])),
            TypeError,
            "Dropout: x must be floats, got an array of shape (1,) and dtype bool: try x.astype(numpy.float32); "
            "class ids go through an Embedding first",
        ),
        (
            [mr.Tensor([1.0])],
            TypeError,
            "Dropout: x must be one array or Tensor, got a list that holds Tensors: pass one of them, or join them "
            "with minirnn.stack, which keeps their gradients",
        ),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_what_dropout_does_not_take(training, x, kind, message):
    layer = Dropout(0.5, rng=0).train(training)
    before = layer.rng.bit_generator.state
    with raises(kind, message):
        layer(x)
    assert layer.rng.bit_generator.state == before  # a call that is refused draws nothing


def test_dropout_names_what_came_in_within_detect_anomaly():
    message = "detect_anomaly: Dropout: x holds inf at [1] (1 of 2 entries not finite): look at the data that comes in"
    with mr.detect_anomaly(), raises(mr.AnomalyError, message):
        Dropout(0.5)(np.array([0.0, np.inf]))


# --- Sequential -------------------------------------------------------------------------------------------------------


def test_sequential_applies_one_after_the_other():
    first, second = mr.Linear(3, 4, rng=0), mr.Linear(4, 1, rng=1)
    model = mr.Sequential(first, second)
    x = np.ones((2, 3))
    np.testing.assert_array_equal(model(x).numpy(), second(first(x)).numpy())
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert model.count_params() == 12 + 4 + 4 + 1


def test_sequential_keeps_its_order_beyond_ten():
    model = mr.Sequential(*(mr.Linear(1, 1, initializer=mr.init.constant(k), bias=False) for k in range(12)))
    assert [p.item() for p in model.parameters()] == list(range(12))


def test_sequential_takes_modules_of_ones_own():
    class Square(mr.Module):
        def forward(self, x):
            return x * x

    model = mr.Sequential(mr.Linear(3, 2, rng=0), Square(), mr.Sequential(mr.Linear(2, 1, rng=1)))
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "2.0.weight", "2.0.bias"]
    assert model(np.ones((4, 3))).shape == (4, 1)


@pytest.mark.parametrize(
    ("modules", "kind", "message"),
    [
        ((), ValueError, "Sequential: expected at least one module, got none"),
        ((mr.Linear(3, 4), np.tanh), TypeError, "Sequential: modules[1] must be a Module, got ufunc"),
        (([mr.Linear(3, 4)],), TypeError, "Sequential: modules[0] must be a Module, got list"),
        (
            (mr.RecurrentLayer(3, 4), mr.Linear(4, 1)),
            TypeError,
            "Sequential: modules[0], a RecurrentLayer, returns a state beside its outputs, which a chain would lose: "
            "use SequenceModel(recurrent, head)",
        ),
        (
            (mr.Linear(3, 3), mr.SequenceModel(mr.RecurrentLayer(3, 4), mr.Linear(4, 1))),
            TypeError,
            "Sequential: modules[1], a SequenceModel, returns a state beside its outputs, which a chain would lose: "
            "use SequenceModel(recurrent, head)",
        ),
    ],
)
def test_what_sequential_refuses(modules, kind, message):
    with raises(kind, message):
        mr.Sequential(*modules)
