"""Linear, Embedding, Dropout, Sequential."""

import copy
import itertools

import numpy as np
import pytest
from error_texts import raises
from recurrent_cases import check_refused

import minirnn as mr
from minirnn.layers.plain import Dropout

# --- Linear -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_x_W_plus_b_on_the_last_axis(bias):
    for shape in [(3,), (4, 3), (5, 4, 3), (2, 5, 4, 3), (0, 3)]:
        layer = mr.Linear(3, 2, bias, dtype=np.float64, rng=0)
        if bias:
            layer.bias.data = [0.5, -0.25]
        x = np.random.default_rng(0).standard_normal(shape)
        y = layer(x)
        assert y.shape == (*shape[:-1], 2)
        expected = np.einsum("...i,ij->...j", x, layer.weight.data) + ([0.5, -0.25] if bias else 0)
        np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-14)
        if x.size:
            inputs = [mr.Tensor(x, requires_grad=True), *layer.parameters()]
            assert mr.gradcheck(lambda x, *_: layer(x) ** 2, inputs)  # noqa: B023


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
def test_linear_casts_what_comes_in(dtype):
    layer, x = mr.Linear(3, 2, dtype=dtype, rng=0), np.eye(3)[:2]
    for given in (x.tolist(), *(x.astype(of) for of in (np.float32, np.float64, np.int64, np.bool_))):
        assert layer(given).dtype == dtype
        np.testing.assert_array_equal(layer(given).numpy(), layer(x.astype(dtype)).numpy())
    assert mr.Linear(1, 1, initializer="ones", dtype=np.float64)([0.1]).item() == 0.1  # a list keeps every digit
    t = mr.Tensor(np.ones((1, 3)), requires_grad=True)
    layer(t).sum().backward()
    assert t.grad.dtype == np.float64
    assert layer.weight.grad.dtype == layer.bias.grad.dtype == dtype


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


@pytest.mark.parametrize("ids", [[0, 3], np.array([0, 3], np.uint8), mr.Tensor(np.array([0, 3])), (0, 3)])
def test_ids_in_any_form(ids):
    layer = mr.Embedding(4, 2, rng=0)
    np.testing.assert_array_equal(layer(ids).numpy(), layer.weight.data[[0, 3]])
    assert layer.count_params() == 8
    assert repr(layer) == "Embedding(4, 2)"


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


# --- errors -----------------------------------------------------------------------------------------------------------

SIZE, DTYPE = "must be an int ≥ 1, got", "dtype must be numpy.float32 or numpy.float64, got"
DROP, NOTHING = "p must be a probability, 0 ≤ p < 1, got", "p=0 would do nothing: leave it out"
STATE = "returns a state beside its outputs, which a chain would lose: use SequenceModel(recurrent, head)"
PRESET = (
    "must be one of 'glorot', 'orthogonal', 'identity', 'normal', 'zeros', 'ones', 'kaiming', 'lecun' or a callable "
    "taking (shape, rng), got 'he' (str): for a number try constant(number), for an array try lambda shape, rng: array"
)
MODEL = mr.SequenceModel(mr.RecurrentLayer(3, 4), mr.Linear(4, 1))


@pytest.mark.parametrize(
    ("make", "arguments", "options", "kind", "message"),
    [
        (mr.Linear, (0, 2), {}, ValueError, f"in_features {SIZE} 0: try 1 or more"),
        (mr.Linear, (3, 2.0), {}, TypeError, f"out_features {SIZE} 2.0 (float): try 2"),
        (mr.Linear, (3, 2, 5), {}, TypeError, "bias must be True or False, got 5 (int)"),
        (mr.Linear, (3, 2), {"dtype": "float16"}, TypeError, f"{DTYPE} 'float16'"),
        (mr.Linear, (3, 2), {"initializer": "he"}, ValueError, f"initializer {PRESET}"),
        (mr.Embedding, (0, 2), {}, ValueError, f"num_embeddings {SIZE} 0: try 1 or more"),
        (mr.Embedding, (4, "2"), {}, TypeError, f"embedding_dim {SIZE} '2' (str): try 1"),
        (mr.Embedding, (4, 2), {"dtype": int}, TypeError, f"{DTYPE} <class 'int'>"),
        (Dropout, (0,), {}, ValueError, NOTHING),
        (Dropout, (1,), {}, ValueError, f"{DROP} 1: it is a part, not a percentage"),
        (Dropout, (np.True_,), {}, TypeError, f"{DROP} np.True_ (bool): try 0.5"),
        (Dropout, (None,), {}, TypeError, f"{DROP} None (NoneType): try 0.5"),
        (mr.Sequential, (), None, ValueError, "expected at least one module, got none"),
        (mr.Sequential, (mr.Linear(3, 4), np.tanh), None, TypeError, "modules[1] must be a Module, got ufunc"),
        (mr.Sequential, ([mr.Linear(3, 4)],), None, TypeError, "modules[0] must be a Module, got list"),
        (mr.Sequential, (MODEL.recurrent, mr.Linear(4, 1)), None, TypeError, f"modules[0], a RecurrentLayer, {STATE}"),
        (mr.Sequential, (mr.Linear(3, 3), MODEL), None, TypeError, f"modules[1], a SequenceModel, {STATE}"),
    ],
)
def test_what_they_are_not_made_of(make, arguments, options, kind, message):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    with raises(kind, f"{make.__name__}: {message}"):
        make(*arguments, **({} if options is None else options | {"rng": rng}))
    assert rng.bit_generator.state == before


def test_an_initialiser_that_does_not_fit_and_what_is_no_generator():
    square = 'identity: shape must be square, (H, H), got (3, 2): try "orthogonal", or blocks= for gates'
    with raises(ValueError, square):
        mr.Linear(3, 2, initializer="identity")
    with pytest.raises(TypeError, match=r"^rng must be a numpy\.random\.Generator, an int ≥ 0"):
        Dropout(0.5, rng="seed")


IN, IDS = "x must have shape (…, in=3), got", "ids must be integers 0 … 3, got"
FLOATS = "x must be floats, got an array of shape"
CAST = "try x.astype(numpy.float32); class ids go through an Embedding first"
LISTED = (
    "x must be one array or Tensor, got a list that holds Tensors: pass one of them, or join them with minirnn.stack, "
    "which keeps their gradients"
)
NUMBERS = (
    "x must be an array of numbers (bool, int or float), got ndarray of dtype object: try np.asarray(data, dtype=float)"
)


@pytest.mark.parametrize(
    ("layer", "x", "kind", "message"),
    [
        (mr.Linear(3, 2), np.zeros((4, 2)), ValueError, f"{IN} (4, 2): the layer was made with in_features=3"),
        (mr.Linear(3, 2), np.full((4, 3), None), TypeError, NUMBERS),
        (mr.Linear(3, 2), [mr.Tensor([1.0, 2.0, 3.0])], TypeError, LISTED),
        (mr.Embedding(4, 2), [[0, 1], [4, 5]], IndexError, f"{IDS} 4 at [1, 0]"),
        (mr.Embedding(4, 2), [0, -1], IndexError, f"{IDS} -1 at [1]"),
        (mr.Embedding(4, 2), [0.0], TypeError, f"{IDS} an array of shape (1,) and dtype float64: try ids.astype(int)"),
        (Dropout(0.5), np.zeros((4, 2), int), TypeError, f"{FLOATS} (4, 2) and dtype int64: {CAST}"),
        (Dropout(0.5), mr.Tensor(np.array([True])), TypeError, f"{FLOATS} (1,) and dtype bool: {CAST}"),
        (Dropout(0.5), [mr.Tensor([1.0])], TypeError, LISTED),
    ],
)
def test_what_they_do_not_take(layer, x, kind, message):
    for training in (True, False):
        check_refused(layer.train(training), lambda: layer(x), kind, message)


@pytest.mark.parametrize("layer", [mr.Linear(3, 2), Dropout(0.5)])
def test_detect_anomaly_names_what_came_in(layer):
    x = np.zeros((4, 3))
    x[2, 1] = np.nan
    rest = "x holds nan at [2, 1] (1 of 12 entries not finite): look at the data that comes in"
    with mr.detect_anomaly(), raises(mr.AnomalyError, f"detect_anomaly: {type(layer).__name__}: {rest}"):
        layer(x)


def test_the_vector_of_padding_is_0_and_stays_so():
    layer = mr.Embedding(4, 3, padding_idx=2, rng=0)
    ids = np.array([[0, 2], [2, 3]])
    vectors = layer(ids)
    assert not vectors.numpy()[[0, 1], [1, 0]].any()
    assert vectors.numpy()[0, 0].all()
    vectors.sum().backward()
    assert layer.weight.grad.tolist() == [[1] * 3, [0] * 3, [0] * 3, [1] * 3]
    layer.load_state_dict({"weight": np.ones((4, 3))})
    assert not layer(2).numpy().any()
    assert repr(layer) == "Embedding(4, 3, padding_idx=2)"
    with raises(
        IndexError, "Embedding: padding_idx must be the id of one of its rows, 0 … 3, got 4: leave it out for none"
    ):
        mr.Embedding(4, 3, padding_idx=4)
