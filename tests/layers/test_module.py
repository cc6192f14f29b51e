"""Parameter and Module: names and order, sharing, state, copies, modes, summary, repr."""

import copy
import io
import re

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr


class Affine(mr.Module):
    """A Module as a user would write it."""

    def __init__(self):
        super().__init__()
        self.inner = mr.Linear(3, 2, rng=0)
        self.scale = mr.Parameter([2.0, 3.0])
        self.note = "not a parameter"
        self.constant = mr.Tensor([1.0])
        self.outer = mr.Sequential(mr.Linear(2, 4, rng=1), mr.Linear(4, 1, bias=False, rng=2))

    def forward(self, x):
        return self.outer(self.inner(x) * self.scale)


NAMES = ["inner.weight", "inner.bias", "scale", "outer.0.weight", "outer.0.bias", "outer.1.weight"]
SIZES = [6, 2, 2, 8, 4, 4]


# --- Parameter --------------------------------------------------------------------------------------------------------


def test_a_parameter_is_a_leaf_that_asks_for_a_gradient():
    p = mr.Parameter(np.ones((2, 3)))
    assert isinstance(p, mr.Tensor)
    assert p.requires_grad
    assert p.name == ""
    assert p.dtype == np.float64
    assert mr.Parameter([1, 2]).dtype == mr.Parameter([1.0, 2.0]).dtype == np.float32
    assert not mr.Parameter([1.0], requires_grad=False).requires_grad
    (p * p).sum().backward()
    np.testing.assert_array_equal(p.grad, np.full((2, 3), 2.0))


def test_what_is_no_parameter():
    floats = "only floats can require a gradient, got dtype int64; convert first, for example with .astype(np.float32)"
    with raises(TypeError, f"Tensor: {floats}"):
        mr.Parameter(np.arange(3))
    numbers = (
        "must be an array of numbers (bool, int or float), got str of dtype <U1: try np.asarray(data, dtype=float)"
    )
    with raises(TypeError, f"Parameter: data {numbers}"):
        mr.Parameter("a")
    for dtype in (np.float16, np.longdouble, ">f4"):
        float32 = f"must be numpy.float32 or numpy.float64, got {np.dtype(dtype)!r}"
        with raises(TypeError, f"Parameter: the dtype of data {float32}"):
            mr.Parameter(np.ones(3, dtype))
    assert mr.Linear(2, 1)(mr.Tensor(np.ones((1, 2), np.float16))).dtype == np.float32


def test_a_parameter_is_named_by_the_attribute_it_is_set_as_first():
    model = Affine()
    assert model.scale.name == "scale"
    model.factor = model.scale
    assert model.scale.name == "scale"
    assert mr.Parameter([1.0], name="given").name == "given"


# --- what a Module owns -----------------------------------------------------------------------------------------------


def test_names_are_dotted_and_in_the_order_of_insertion():
    model = Affine()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [p.size for p in model.parameters()] == SIZES
    assert all(a is b for (_, a), b in zip(model.named_parameters(), model.parameters(), strict=True))
    assert model.count_params() == sum(SIZES)
    assert [name for name, _ in model.children()] == ["inner", "outer"]


def test_the_order_is_the_same_every_time_and_after_a_replacement():
    model = Affine()
    model.scale = mr.Parameter(np.ones(2))
    model.later = mr.Parameter(np.ones(5))
    assert [name for name, _ in model.named_parameters()] == [*NAMES, "later"]
    del model.later
    assert [name for name, _ in model.named_parameters()] == NAMES


def test_a_shared_parameter_counts_once(capsys):
    model = mr.Sequential(mr.Linear(3, 3, rng=0), mr.Linear(3, 3, rng=1))
    first, second = dict(model.children()).values()
    second.weight = first.weight
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert model.count_params() == 15
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.bias"]
    x = np.ones((1, 3))
    model(x).sum().backward()
    apart = mr.Sequential(mr.Linear(3, 3, rng=0), mr.Linear(3, 3, rng=1))
    for (_, layer), source in zip(apart.children(), (first, second), strict=True):
        layer.load_state_dict(source.state_dict())
    apart(x).sum().backward()
    both = [layer.weight.grad for _, layer in apart.children()]
    np.testing.assert_allclose(first.weight.grad, both[0] + both[1], rtol=1e-6)
    model.summary()
    out = capsys.readouterr().out
    assert "1.weight" not in out
    assert out.splitlines()[-1].split() == ["total", "15"]


def test_a_module_used_twice_counts_once(capsys):
    layer = mr.Linear(3, 3)
    model = mr.Sequential(layer, layer)
    assert model.count_params() == 12
    model.summary()
    assert capsys.readouterr().out.splitlines()[-1].split() == ["total", "12"]
    assert len(copy.deepcopy(model).parameters()) == 2  # a copy shares what the original shares


def test_train_and_eval_reach_everything_owned_and_return_the_module():
    model = Affine()
    modules = [model, model.inner, model.outer, *(child for _, child in model.outer.children())]
    assert all(m.training for m in modules)
    assert model.eval() is model
    assert not any(m.training for m in modules)
    assert model.train() is model
    assert all(m.training for m in modules)
    assert not model.outer.train(False).training
    assert model.training


def test_a_call_is_forward_with_all_its_arguments():
    class Echo(mr.Module):
        def forward(self, *args, **kwargs):
            return args, kwargs

    assert Echo()(1, 2, a=3) == ((1, 2), {"a": 3})
    with raises(NotImplementedError, "Module must define forward()"):
        mr.Module()(1)
    for method in ("forward", "last_output"):
        with raises(NotImplementedError, f"Recurrence must define {method}()"):
            getattr(mr.layers.Recurrence(), method)(1)


def test_a_deep_copy_is_independent_and_zero_grad_sets_none_everywhere():
    model, x = Affine(), np.ones((2, 3))
    expected = model(x).numpy()
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    twin = copy.deepcopy(model)
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    assert list(twin.state_dict()) == NAMES
    for p in twin.parameters():
        p.data -= 1
    np.testing.assert_array_equal(model(x).numpy(), expected)
    assert not np.array_equal(twin(x).numpy(), expected)


# --- state ------------------------------------------------------------------------------------------------------------


def test_state_goes_out_and_in_as_copies():
    one, two, x = Affine(), Affine(), np.ones((2, 3))
    state, before = one.state_dict(), one(x).numpy()
    saved = {name: array.copy() for name, array in state.items()}
    assert list(state) == NAMES
    for p in (*one.parameters(), *two.parameters()):
        p.data -= 1
    for name, array in state.items():
        np.testing.assert_array_equal(array, saved[name])
    two.load_state_dict(state)
    for array in state.values():
        array += 5
    for name, p in two.named_parameters():
        np.testing.assert_array_equal(p.data, saved[name])
    np.testing.assert_array_equal(two(x).numpy(), before)


def test_loading_keeps_dtype_gradient_and_identity():
    model = mr.Linear(2, 1, rng=0)
    weight = model.weight
    weight.grad = np.ones((2, 1))
    model.load_state_dict({"weight": np.array([[1], [2]]), "bias": [0.5]})
    assert model.weight is weight
    assert weight.dtype == model.bias.dtype == np.float32
    np.testing.assert_array_equal(weight.data, [[1], [2]])
    np.testing.assert_array_equal(weight.grad, np.ones((2, 1)))
    precise = mr.Linear(1, 1, dtype=np.float64)
    precise.load_state_dict({"weight": [[0.1]], "bias": [0.1]})
    assert precise.weight.item() == 0.1  # a list keeps every digit


def test_every_entry_that_does_not_fit_is_listed_and_nothing_is_loaded():
    model = Affine()
    before = model.state_dict()
    versions = [p._version for p in model.parameters()]
    state = {
        "inner.weight": np.zeros((2, 3)),
        "inner.bias": np.array(["a", "b"]),
        "outer.0.weight": [[1, 2], [3]],
        "outer.1.weight": np.zeros((4, 1)),  # the only one that fits
        "extra": np.zeros(1),
        "inner.Weight": np.zeros((3, 2)),
    }
    message = (
        "Affine.load_state_dict: nothing was loaded, because of entries that do not fit:\n"
        "  misshapen: inner.weight must have shape (3, 2), got (2, 3)\n"
        "  not an array of numbers: inner.bias is an array of shape (2,) and dtype <U1\n"
        "  missing: scale (2,)\n"
        "  not an array of numbers: outer.0.weight is [[1, 2], [3]] (list)\n"
        "  missing: outer.0.bias (4,)\n"
        "  unexpected: extra\n"
        "  unexpected: inner.Weight"
    )
    with raises(ValueError, message):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert [p._version for p in model.parameters()] == versions


def test_a_value_that_the_dtype_cannot_hold_loads_nothing():
    model = mr.Linear(2, 1, rng=0)
    before = model.state_dict()
    message = (
        "Linear.load_state_dict: nothing was loaded, because of entries that do not fit:\n"
        "  too large: weight holds -1e+39 at [1, 0], too large for float32: try float64\n"
        "  too large: bias holds 1e+300 at [0], too large for float32: try float64"
    )
    for weight in ([[0.0], [-1e39]], np.array([[np.inf], [-1e39]])):
        with raises(ValueError, message):
            model.load_state_dict({"weight": weight, "bias": np.array([1e300])})
    np.testing.assert_array_equal(model.weight.data, before["weight"])
    model.load_state_dict({"weight": np.array([[np.inf], [3.4e38]]), "bias": [np.nan]})  # what is infinite already
    assert model.weight.data[0, 0] == np.inf


@pytest.mark.parametrize(("state", "kind"), [([1, 2], "list"), (None, "NoneType"), ("state.npz", "str")])
def test_a_state_must_be_a_mapping(state, kind):
    with raises(TypeError, f"Linear.load_state_dict: state must map names to arrays, got {kind}: try a dict"):
        mr.Linear(2, 1).load_state_dict(state)


# --- weights in a file ------------------------------------------------------------------------------------------------


def test_save_and_load_give_the_same_bits(tmp_path):
    model, twin = Affine(), Affine()
    for p in twin.parameters():
        p.data = p.data + 1
    path = model.save(tmp_path / "model.npz")
    assert path == tmp_path / "model.npz"
    assert twin.load(str(path)) is twin
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert p.data.tobytes() == q.data.tobytes(), name
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["parameters/outer.0.bias"], model.state_dict()["outer.0.bias"])


def test_load_takes_the_weights_of_a_checkpoint_too(tmp_path):
    model, twin = mr.Linear(3, 2, rng=0), mr.Linear(3, 2, rng=1)
    adam = mr.optim.Adam(model.parameters())
    path = mr.checkpoints.save_checkpoint(tmp_path / "run.npz", model=model, optimizer=adam, position=3)
    np.testing.assert_array_equal(twin.load(path).weight.data, model.weight.data)


def test_load_of_weights_that_do_not_fit_lists_them_and_loads_nothing(tmp_path):
    path = Affine().save(tmp_path / "model.npz")
    model = mr.Sequential(mr.Linear(3, 2, rng=0))
    model.inner = mr.Linear(3, 4)
    before = [p.data for p in model.parameters()]
    build = (
        f"Sequential.load: {str(path)!r} was saved from a module of type Affine: build this one as it was built then. "
    )
    listed = "Sequential.load_state_dict: nothing was loaded, because of entries that do not fit:\n  missing: 0.weight"
    with pytest.raises(mr.checkpoints.CheckpointError, match="^" + re.escape(build + listed)):
        model.load(path)
    assert all(p.data is old for p, old in zip(model.parameters(), before, strict=True))


def test_load_of_no_file():
    with raises(FileNotFoundError, "Linear.load: cannot read 'none.npz': No such file or directory: check the path"):
        mr.Linear(2, 1).load("none.npz")
    with raises(TypeError, "Linear.load: path must be a file's path, got 3 (int): try 'model.npz'"):
        mr.Linear(2, 1).load(3)


def test_generators_are_named_where_they_are_held():
    shared = np.random.default_rng(0)
    stack = mr.Stacked([mr.LSTMLayer(2, 3, rng=shared), mr.GRULayer(3, 2, rng=1)], dropout=0.5, rng=shared)
    model = mr.SequenceModel(stack, mr.Linear(2, 1))
    names = ["recurrent.0._rng", "recurrent.1._rng", "recurrent.dropout.rng"]
    assert [name for name, _ in model.named_generators()] == names
    held = dict(model.named_generators())
    assert held[names[0]] is held[names[2]] is shared is not held[names[1]]
    assert list(mr.Linear(2, 1).named_generators()) == []


# --- summary and repr -------------------------------------------------------------------------------------------------

SUMMARY = """\
name            shape (row convention)  shape (column convention)  formula       count
--------------  ----------------------  -------------------------  ------------  -----
inner.weight    (3, 2)                  (2, 3)                     in·out = 3·2      6
inner.bias      (2,)                    (2,)                       out = 2           2
scale           (2,)                    (2,)                       out = 2           2
outer.0.weight  (2, 4)                  (4, 2)                     in·out = 2·4      8
outer.0.bias    (4,)                    (4,)                       out = 4           4
outer.1.weight  (4, 1)                  (1, 4)                     in·out = 4·1      4
--------------  ----------------------  -------------------------  ------------  -----
total                                                                               26
"""


def test_summary_is_a_table_in_the_order_of_the_parameters(capsys):
    model = Affine()
    model.summary()
    assert capsys.readouterr().out == SUMMARY
    file = io.StringIO()
    model.summary(file)
    assert file.getvalue() == SUMMARY
    setattr(model, "\udfff", mr.RecurrentLayer(1, 1))
    model.summary()
    assert "\n�.W_xh " in capsys.readouterr().out
    assert capsys.readouterr().out == ""


def test_a_parameter_is_not_lost_to_an_array():
    layer = mr.Linear(3, 2)
    before = layer.weight
    with pytest.raises(TypeError, match=r"Linear\.weight is a Parameter.*set weight\.data.*set None"):
        layer.weight = np.eye(3, 2)
    assert layer.weight is before
    layer.bias = None
    layer.weight = mr.Parameter(np.ones((3, 2)))
    assert layer.count_params() == 6


def test_repr_is_nested():
    assert repr(Affine()) == (
        "Affine(\n"
        "  (inner): Linear(3, 2)\n"
        "  (outer): Sequential(\n"
        "    (0): Linear(2, 4)\n"
        "    (1): Linear(4, 1, bias=False)\n"
        "  )\n"
        ")"
    )
    assert repr(mr.Linear(2, 1)) == "Linear(2, 1)"
