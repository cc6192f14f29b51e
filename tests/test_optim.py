"""Optimisers against their equations and torch; clipping by the global norm."""

import functools
import math
import operator

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn import optim
from minirnn.arguments import describe

MAKE = {
    "SGD": lambda params: optim.SGD(params, lr=0.1),
    "momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.01, rho=0.8, eps=1e-6),
    "Adam": lambda params: optim.Adam(params, lr=0.01, betas=(0.8, 0.95), eps=1e-6),
}
SHAPES = [(3, 2), (2,), (), (1, 1)]


def parameters(dtype=np.float64, shapes=SHAPES):
    rng = np.random.default_rng(0)
    return [mr.Parameter(rng.standard_normal(s).astype(dtype), name=f"p{i}") for i, s in enumerate(shapes)]


def gradients(steps, shapes=SHAPES):
    rng = np.random.default_rng(1)
    return [[np.asarray(rng.standard_normal(shape) * 10.0**k) for shape in shapes] for k in range(steps)]


# --- the equations ----------------------------------------------------------------------------------------------------


def momentum(p, g, memory, k):
    memory["v"] = 0.9 * memory.get("v", 0.0) + g
    return p - 0.1 * memory["v"]


def rmsprop(p, g, memory, k):
    memory["s"] = 0.8 * memory.get("s", 0.0) + 0.2 * g**2
    return p - 0.01 * g / (math.sqrt(memory["s"]) + 1e-6)


def adam(p, g, memory, k):
    memory["m"] = 0.8 * memory.get("m", 0.0) + 0.2 * g
    memory["v"] = 0.95 * memory.get("v", 0.0) + 0.05 * g**2
    m, v = memory["m"] / (1 - 0.8**k), memory["v"] / (1 - 0.95**k)
    return p - 0.01 * m / (math.sqrt(v) + 1e-6)


EQUATIONS = {"SGD": lambda p, g, memory, k: p - 0.1 * g, "momentum": momentum, "RMSprop": rmsprop, "Adam": adam}
"""As the docstrings have them, for one number."""


@pytest.mark.parametrize("name", MAKE)
def test_every_step_is_its_equation_number_by_number(name):
    params = parameters()
    optimizer, rule = MAKE[name](params), EQUATIONS[name]
    expected = [[(float(value), {}) for value in p.data.ravel()] for p in params]
    for k, step in enumerate(gradients(5), start=1):
        for p, g in zip(params, step, strict=True):
            p.grad = g
        optimizer.step()
        for i, g in enumerate(step):
            pairs = zip(expected[i], g.ravel(), strict=True)
            expected[i] = [(rule(value, float(gj), memory, k), memory) for (value, memory), gj in pairs]
            np.testing.assert_allclose(params[i].data.ravel(), [value for value, _ in expected[i]], rtol=1e-13)


@pytest.mark.peer
@pytest.mark.parametrize("name", MAKE)
def test_it_is_torchs_over_several_steps(name, torch):
    """Some Parameters get no gradient at some steps; p1 gets its first one late."""
    params = parameters()
    others = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in params]
    other = {
        "SGD": lambda: torch.optim.SGD(others, lr=0.1),
        "momentum": lambda: torch.optim.SGD(others, lr=0.1, momentum=0.9),
        "RMSprop": lambda: torch.optim.RMSprop(others, lr=0.01, alpha=0.8, eps=1e-6),
        "Adam": lambda: torch.optim.Adam(others, lr=0.01, betas=(0.8, 0.95), eps=1e-6),
    }[name]()
    optimizer = MAKE[name](params)
    for k, step in enumerate(gradients(8)):
        optimizer.zero_grad()
        other.zero_grad(set_to_none=True)
        for i, (p, q, g) in enumerate(zip(params, others, step, strict=True)):
            if (i == 1 and k < 4) or (i == 2 and k % 2):
                continue
            p.grad = g
            q.grad = torch.from_numpy(g.copy())
        optimizer.step()
        other.step()
        for p, q in zip(params, others, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-12, err_msg=f"{p.name} at step {k}")


# --- what a step changes, and what not --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKE)
def test_dtype_shape_and_type_are_kept_and_gradients_are_read_only(name):
    for dtype in (np.float32, np.float64):
        params = parameters(dtype)
        optimizer = MAKE[name](params)
        for step in gradients(3):
            for p, g in zip(params, step, strict=True):
                p.grad = g.astype(dtype)
                p.grad.flags.writeable = False
            given = [p.grad for p in params]
            optimizer.step()
            assert all(p.grad is g for p, g in zip(params, given, strict=True))
        for p, shape in zip(params, SHAPES, strict=True):
            assert type(p.data) is np.ndarray
            assert p.data.dtype == dtype
            assert p.shape == shape


@pytest.mark.parametrize("name", MAKE)
def test_without_a_gradient_nothing_changes(name):
    params = parameters()
    before = [p.data.copy() for p in params]
    optimizer = MAKE[name](params)
    with pytest.raises(RuntimeError, match=r"step: no Parameter has a gradient: call loss\.backward\(\) first"):
        optimizer.step()
    params[0].grad = np.ones((3, 2))
    optimizer.step()
    assert not np.array_equal(params[0].data, before[0])
    for p, old in zip(params[1:], before[1:], strict=True):
        np.testing.assert_array_equal(p.data, old)


@pytest.mark.parametrize("name", MAKE)
def test_arrays_taken_or_given_before_a_step_stay_as_they_are(name):
    """A snapshot ``before = p.data``, or weights handed on with ``q.data = p.data``, are not trained along.

    And a backward pass that needs the old values notices.
    """
    mine = np.ones(3)
    p, q = mr.Parameter(mine, name="w"), mr.Parameter(np.zeros(3))
    q.data = p.data
    before, view, loss = p.data, p.detach(), (p * p).sum()
    p.grad = np.ones(3)
    MAKE[name]([p]).step()
    for array in (mine, before, view.numpy(), q.data):
        np.testing.assert_array_equal(array, np.ones(3))
    assert not np.array_equal(p.data, np.ones(3))
    with pytest.raises(mr.ChangedParameterError, match=r"parameter w \(3,\) was changed"):
        loss.backward()


def test_any_iterable_will_do_and_zero_grad_sets_none():
    params = parameters()
    optimizer = optim.SGD(iter(params), np.int64(1), momentum=np.float64(0.5))
    assert all(a is b for a, b in zip(optimizer.params, params, strict=True))
    params[1].grad = np.ones(2)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)
    for ordered in (dict.fromkeys(params), dict.fromkeys(params).keys(), dict(enumerate(params)).values()):
        assert all(a is b for a, b in zip(optim.SGD(ordered, 0.1).params, params, strict=True))


POSITIVE, FRACTION, PAIR = "a positive number", "a number in [0, 1)", "a pair (β₁, β₂)"
BAD_SETTINGS = [
    (optim.SGD, {"lr": -0.1}, ValueError, "lr must be a number ≥ 0, got -0.1: try 0.01"),
    (optim.Adam, {"lr": math.inf}, ValueError, "lr must be a number ≥ 0, got inf: try 0.01"),
    (optim.Adam, {"lr": "0.1"}, TypeError, "lr must be a number ≥ 0, got '0.1' (str): try 0.01"),
    (optim.Adam, {"lr": True}, TypeError, "lr must be a number ≥ 0, got True (bool): try 0.01"),
    (optim.Adam, {"eps": 0}, ValueError, f"eps must be {POSITIVE}, got 0: try 1e-8"),
    (optim.SGD, {"lr": 0.1, "momentum": 1.0}, ValueError, f"momentum must be {FRACTION}, got 1.0: try 0.9"),
    (optim.RMSprop, {"rho": -0.1}, ValueError, f"rho must be {FRACTION}, got -0.1: try 0.9"),
    (optim.Adam, {"betas": (0.9, 1)}, ValueError, f"betas[1] must be {FRACTION}, got 1: try 0.9"),
    (optim.Adam, {"betas": (0.9,)}, TypeError, f"betas must be {PAIR}, got (0.9,): try (0.9, 0.999)"),
]


def test_settings_that_are_none_are_refused_by_the_constructor_and_later():
    for optimizer, settings, kind, message in BAD_SETTINGS:
        with raises(kind, f"{optimizer.__name__}: {message}"):
            optimizer(parameters(), **settings)
        made, (name, value) = optimizer(parameters(), lr=0), list(settings.items())[-1]
        before = repr(made.state_dict())
        with raises(kind, f"{optimizer.__name__}: {message}"):
            setattr(made, name, value)
        assert repr(made.state_dict()) == before


def test_a_momentum_that_is_set_later_is_that_of_the_constructor():
    params, twins = parameters(), parameters()
    late, one = optim.SGD(params, 0.1), MAKE["momentum"](twins)
    late.momentum = 0.9
    for optimizer in (late, one):
        steps(optimizer, optimizer.params, gradients(5))
    assert repr(late.state_dict()) == repr(one.state_dict())
    for momentum in (
        0.5,
        0,
        0.5,
        np.float32(0.25),
    ):  # whatever it is set to, its own state loads, before a step and after
        late.momentum = momentum
        for _ in range(2):
            late.load_state_dict(late.state_dict())
            steps(late, params, gradients(1))
    for name, value in {"betas": [0.5, 0.25], "eps": 1, "lr": 0}.items():
        adam = MAKE["Adam"](parameters())
        setattr(adam, name, value)
        twin = MAKE["Adam"](parameters())
        twin.load_state_dict(adam.state_dict())
        assert repr(twin.state_dict()) == repr(adam.state_dict())
    assert adam.betas == (0.8, 0.95)


def test_parameters_that_are_none_are_refused():
    p, module = parameters(), mr.Linear(2, 3)
    several, hint = "params must be a list of Parameters, got one", "try module.parameters(), or put a Tensor in a list"
    twice = "a Parameter stands twice in params; each must be changed once"
    order, half = (
        "whose order is chance",
        mr.Tensor(np.ones(2, np.float16), requires_grad=True),
    )
    floats = "numpy.float32 or numpy.float64"
    for kind, params, error, message in (
        (optim.SGD, [], ValueError, "SGD: params is empty; pass module.parameters()"),
        (optim.SGD, p[0], TypeError, f"SGD: {several} Parameter: {hint}"),
        (optim.Adam, [p[0], np.ones(2)], TypeError, "Adam: params[1] must be a Parameter, got ndarray"),
        (optim.Adam, module.named_parameters(), TypeError, "Adam: params[0] must be a Parameter, got tuple"),
        (optim.Adam, module, TypeError, f"Adam: {several} Linear: {hint}"),
        (optim.SGD, module.parameters, TypeError, f"SGD: {several} method: {hint}"),
        (optim.clip_grad_norm, module.parameters, TypeError, f"clip_grad_norm: {several} method: {hint}"),
        (optim.RMSprop, [p[0], p[1], p[0]], ValueError, f"RMSprop: {twice}"),
        (optim.SGD, {*p}, TypeError, f"SGD: {several} set, {order}: {hint}"),
        (optim.Adam, frozenset(p), TypeError, f"Adam: {several} frozenset, {order}: {hint}"),
        (optim.Adam, [p[0], half], TypeError, f"Adam: the dtype of params[1] must be {floats}, got dtype('float16')"),
        (optim.clip_grad_norm, p[0], TypeError, f"clip_grad_norm: {several} Parameter: {hint}"),
        (optim.clip_grad_norm, module, TypeError, f"clip_grad_norm: {several} Linear: {hint}"),
        (optim.clip_grad_norm, [p[0], p[0]], ValueError, f"clip_grad_norm: {twice}"),
    ):
        with raises(error, message):
            kind(params, 1.0)


# --- state ------------------------------------------------------------------------------------------------------------


def steps(optimizer, params, some, first=0):
    """Make steps from gradients; p1 gets its first one late, p2 every second."""
    for k, step in enumerate(some, start=first):
        for i, (p, g) in enumerate(zip(params, step, strict=True)):
            p.grad = None if (i == 1 and k < 4) or (i == 2 and k % 2) else g.astype(p.dtype)
        optimizer.step()
        optimizer.lr *= 0.9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MAKE)
def test_a_state_makes_the_next_steps_the_same_bit_for_bit(name, dtype):
    params, twins = parameters(dtype), parameters(dtype)
    optimizer, other = MAKE[name](params), type(MAKE[name](twins))(twins, lr=7.0)  # with other settings
    some = gradients(9)
    steps(optimizer, params, some[:5])
    state = optimizer.state_dict()
    for p, q in zip(params, twins, strict=True):
        q.data = p.data
    other.load_state_dict(state)
    assert repr(other.state_dict()) == repr(state)
    kept = repr(state)
    steps(optimizer, params, some[5:], first=5)
    steps(other, twins, some[5:], first=5)
    for p, q in zip(params, twins, strict=True):
        assert p.data.tobytes() == q.data.tobytes()
    assert repr(state) == kept  # a state is a copy, on the way out and on the way in
    assert repr(other.state_dict()) == repr(optimizer.state_dict()) != kept


def test_a_state_says_what_it_is():
    adam = MAKE["Adam"](parameters())
    state = adam.state_dict()
    assert list(state) == ["optimizer", "settings", "memory", "counts"]
    assert state["optimizer"] == "Adam"
    assert state["settings"] == {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6}
    assert [a.shape for a in state["memory"]["first"]] == SHAPES
    assert list(state["memory"]) == ["first", "second"]
    assert state["counts"] == {"steps": [0, 0, 0, 0]}
    assert MAKE["SGD"](parameters()).state_dict()["memory"] == {"velocity": []}
    adam.weight_decay = 0.1
    assert list(adam.state_dict()["settings"]) == ["lr", "betas", "eps", "weight_decay"]


FLOAT64, COUNT = "must be an array of shape {} and dtype float64, got", "must be an int ≥ 0, got"
MISFITS = [  # of whose state; where in it, what stands there (... for nothing); what is said of it
    ("Adam", ["more"], "text", "['more']: must be absent, got 'text' (str)"),
    ("Adam", ["settings"], 3, "['settings']: TypeError: 'int' object is not a mapping"),
    ("Adam", ["settings", "lr"], ..., "['settings']: KeyError: 'lr'"),
    ("SGD", ["counts"], {"steps": [5]}, "['counts']['steps'][0]: must be absent, got an int ≥ 0"),
    ("Adam", ["settings", "lr"], -1.0, "['settings']: ValueError: Adam: lr must be a number ≥ 0, got -1.0: try 0.01"),
    ("Adam", ["settings", "betas"], [0.9, 1.0], "['settings']: ValueError: Adam: betas[1] must be a number in [0, 1), "
     "got 1.0: try 0.9"),
    ("RMSprop", ["memory", "square", 0], np.ones((2, 3)), f"['memory']['square'][0]: {FLOAT64.format((3, 2))} "
     "an array of shape (2, 3) and dtype float64"),
    ("Adam", ["memory", "second", 1], np.ones(2, "f4"), f"['memory']['second'][1]: {FLOAT64.format((2,))} "
     "an array of shape (2,) and dtype float32"),
    ("Adam", ["memory", "first", 2], 0.5, f"['memory']['first'][2]: {FLOAT64.format(())} 0.5 (float)"),
    ("Adam", ["counts", "steps"], [1, 2, 3], f"['counts']['steps'][3]: {COUNT} nothing"),
    ("Adam", ["counts", "steps", 3], -1, f"['counts']['steps'][3]: {COUNT} -1 (int)"),
    ("Adam", ["counts", "steps", 3], 1.0, f"['counts']['steps'][3]: {COUNT} 1.0 (float)"),
]  # fmt: skip


def test_a_state_that_does_not_fit_changes_nothing():
    for name, (*way, last), value, fault in MISFITS:
        optimizer = MAKE[name](parameters())
        state = optimizer.state_dict()
        steps(optimizer, optimizer.params, gradients(2))
        before, part = repr(optimizer.state_dict()), functools.reduce(operator.getitem, way, state)
        part[last] = value
        if value is ...:
            del part[last]
        message = f"load_state_dict: nothing was loaded, because of entries that do not fit:\n  state{fault}"
        with raises(ValueError, f"{optimizer.name}.{message}"):
            optimizer.load_state_dict(state)
        assert repr(optimizer.state_dict()) == before
    for state in (None, [1, 2], "adam.npz", {}, {"optimizer": "SGD"}):
        with pytest.raises(ValueError, match=r"^Adam\.load_state_dict: state must be a state_dict of Adam, got "):
            MAKE["Adam"](parameters()).load_state_dict(state)


def test_a_state_of_other_parameters_lists_every_array():
    state = MAKE["Adam"](parameters()).state_dict()
    with pytest.raises(ValueError, match="do not fit") as error:
        MAKE["Adam"](parameters(shapes=[(3, 2), (3,), (), (1, 2)])).load_state_dict(state)
    assert [line.split(":")[0] for line in str(error.value).splitlines()[1:]] == [
        "  state['memory']['first'][1]",
        "  state['memory']['first'][3]",
        "  state['memory']['second'][1]",
        "  state['memory']['second'][3]",
    ]


class Signs(optim.Optimizer):
    """An optimiser as a user would write it: it remembers the gradient before."""

    def __init__(self, params, lr, *, share=0.5):
        super().__init__(params, lr)
        self.share, self.last = share, self._zeros()

    def _change(self, i, g):
        last, self.last[i] = self.last[i], g.copy()
        return self.lr * np.sign(g + self.share * last)


def test_a_state_of_ones_own_optimizer():
    optimizer, other = Signs(parameters(), 0.1, share=0.25), Signs(parameters(), 0.2)
    steps(optimizer, optimizer.params, gradients(5))
    other.load_state_dict(optimizer.state_dict())
    assert other.share == 0.25
    np.testing.assert_array_equal(other.last[0], optimizer.last[0])


def test_the_learning_rate_is_pythons_number_whatever_a_schedule_sets():
    """A numpy float64 would have a float32 change computed in float64, and a resumed run other last digits."""
    for rate in (np.float64(0.3), np.float32(0.25), 0, 1):
        sgd = MAKE["SGD"](parameters())
        sgd.lr = rate
        assert type(sgd.lr) is float
        assert sgd.lr == rate
    for bad in (-0.1, math.nan, math.inf):
        with raises(ValueError, f"SGD: lr must be a number ≥ 0, got {bad!r}: try 0.01"):
            sgd.lr = bad
    for bad in (None, "0.1", True):
        with raises(TypeError, f"SGD: lr must be a number ≥ 0, got {describe(bad)}: try 0.01"):
            sgd.lr = bad
    assert sgd.lr == 1


# --- clip_grad_norm ---------------------------------------------------------------------------------------------------


def with_gradients(*arrays):
    params = []
    for i, array in enumerate(arrays):
        array = np.asarray(array)
        p = mr.Parameter(np.zeros(array.shape, array.dtype), name=f"p{i}")
        p.grad = array
        params.append(p)
    return params


def test_clipping_scales_all_gradients_together_and_returns_the_norm_before():
    params = with_gradients(np.array([3.0, 0.0]), np.array([[4.0]]), np.array(12.0))
    assert optim.clip_grad_norm(params, 6.5) == 13.0
    np.testing.assert_allclose(params[0].grad, [1.5, 0])
    np.testing.assert_allclose(params[1].grad, [[2.0]])
    np.testing.assert_allclose(params[2].grad, 6.0)
    assert math.hypot(*(np.linalg.norm(p.grad) for p in params)) == pytest.approx(6.5, rel=1e-15)


def test_a_norm_within_the_bound_changes_nothing():
    for max_norm in (13.0, 100, np.float32(14), math.inf):
        g = np.array([5.0, 12.0])
        params = with_gradients(g)
        assert optim.clip_grad_norm(params, max_norm) == 13.0
        assert params[0].grad is g


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping_keeps_the_dtype_and_does_not_write_into_the_gradient(dtype):
    g = np.array([3.0, 4.0], dtype)
    g.flags.writeable = False
    params = with_gradients(g)
    norm = optim.clip_grad_norm(params, 1.0)
    assert type(norm) is float
    assert params[0].grad.dtype == dtype
    np.testing.assert_allclose(params[0].grad, [0.6, 0.8], rtol=1e-6)


def test_parameters_without_a_gradient_are_passed_over():
    params = [*with_gradients(np.array([3.0, 4.0])), mr.Parameter(np.ones(2))]
    assert optim.clip_grad_norm(iter(params), 1.0) == 5.0
    assert params[1].grad is None
    with pytest.raises(
        RuntimeError, match=r"clip_grad_norm: no Parameter has a gradient: call loss\.backward\(\) first"
    ):
        optim.clip_grad_norm([mr.Parameter(np.ones(2))], 1.0)
    assert optim.clip_grad_norm(with_gradients(np.zeros(3)), 1.0) == 0.0


def test_squares_that_the_dtype_cannot_hold_are_summed_all_the_same():
    """1e30² is beyond float32, and 1e-30² below it: the norm is neither inf nor 0. (1e-40 is not a normal number.)"""
    for size in (1e30, 1e-30, 3e38, 1e-40):
        params = with_gradients(np.full(4, size, np.float32), np.zeros(2, np.float32))
        with np.errstate(all="raise", under="ignore"):
            assert optim.clip_grad_norm(params, math.inf) == pytest.approx(2 * float(np.float32(size)), rel=1e-6, abs=0)
        if size >= 1e30:
            optim.clip_grad_norm(params, 1.0)
            np.testing.assert_allclose(params[0].grad, 0.5, rtol=1e-4)
    for size in (1e200, 1e-200):
        params = with_gradients(np.full(4, size))
        assert optim.clip_grad_norm(params, math.inf) == pytest.approx(2 * size, rel=1e-14, abs=0)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_refused_with_its_parameter_named_and_nothing_changed(bad):
    """Scaling by max_norm / inf = 0 would turn inf into NaN and set all the others to 0."""
    params = with_gradients(np.array([300.0]), np.array([[1.0, bad]]), np.array([np.nan]))
    before = [p.grad for p in params]
    shown = "nan" if math.isnan(bad) else "inf"
    message = (
        f"clip_grad_norm: the gradient of parameter p1 (1, 2) has norm {shown}, so it cannot be scaled; nothing was "
        "changed. Try a smaller learning rate, or find the step at fault with minirnn.detect_anomaly()"
    )
    with raises(FloatingPointError, message):
        optim.clip_grad_norm(params, 1.0)
    for p, g in zip(params, before, strict=True):
        assert p.grad is g
        np.testing.assert_array_equal(p.data, np.zeros(p.shape))
    with raises(FloatingPointError, message):
        optim.clip_grad_norm(params, math.inf)  # measuring, too, must not pass it off as a number


def test_a_norm_beyond_float64_is_an_error_of_the_same_kind():
    params = with_gradients(np.array([1.5e308]), np.array([1.5e308]))
    with pytest.raises(FloatingPointError, match="clip_grad_norm: the gradient of parameter p0"):
        optim.clip_grad_norm(params, 1.0)


def test_bounds_that_are_none():
    params = with_gradients(np.array([3.0, 4.0]))
    for max_norm in (0, -1.0, math.nan, None, "1", True, -math.inf):
        real = type(max_norm) in (int, float)
        got = f"{max_norm if real else describe(max_norm)}: try 1.0, or math.inf to measure only"
        expected = f"clip_grad_norm: max_norm must be a positive number or inf, got {got}"
        with raises(ValueError if real else TypeError, expected):
            optim.clip_grad_norm(params, max_norm)
        np.testing.assert_array_equal(params[0].grad, [3, 4])


# --- clip_grad_value --------------------------------------------------------------------------------------------------


def test_entries_are_cut_and_the_largest_before_is_returned():
    for dtype in (np.float32, np.float64):
        g, small = np.array([[3.0, -4.0, 0.25]], dtype), np.array([0.5, -0.5], dtype)
        g.flags.writeable = False
        params = [*with_gradients(g, np.array(2.0, dtype), small, np.ones((0, 2), dtype)), mr.Parameter(np.ones(2))]
        peak = optim.clip_grad_value(iter(params), 0.5)
        assert (type(peak), peak) == (float, 4.0)
        assert [p.grad.tolist() for p in params[:3]] == [[[0.5, -0.5, 0.25]], 0.5, [0.5, -0.5]]
        assert {(type(p.grad), p.grad.dtype) for p in params[:4]} == {(np.ndarray, np.dtype(dtype))}
        assert (params[2].grad is small, params[4].grad) == (True, None)
        assert g.max() == 3
        assert optim.clip_grad_value(params, math.inf) == 0.5
    for bad in (0, -1.0, math.nan):
        expected = f"clip_grad_value: max_value must be a positive number or inf, got {bad}"
        with raises(ValueError, f"{expected}: try 1.0, or math.inf to measure only"):
            optim.clip_grad_value(params, bad)
    with raises(RuntimeError, "clip_grad_value: no Parameter has a gradient: call loss.backward() first"):
        optim.clip_grad_value(params[4:], 1.0)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_an_entry_that_is_not_finite_is_not_cut(bad):
    params = with_gradients(np.array([300.0]), np.array([[1.0, bad]]))
    shown = "nan" if math.isnan(bad) else "inf"
    message = (
        f"clip_grad_value: the gradient of parameter p1 (1, 2) has an entry of size {shown}, so it cannot be cut; "
        "nothing was changed. Try a smaller learning rate, or find the step at fault with minirnn.detect_anomaly()"
    )
    with raises(FloatingPointError, message):
        optim.clip_grad_value(params, 1.0)
    assert params[0].grad[0] == 300
