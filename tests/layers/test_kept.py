"""What a module keeps from call to call is never older than its attributes."""

import copy
import functools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minirnn as mr
from minirnn.layers.held import Kept
from minirnn.layers.layer import Layer

T, N, D, H = 5, 2, 3, 4
KINDS = {"elman": mr.RecurrentLayer, "lstm": mr.LSTMLayer, "gru": mr.GRULayer}
x = np.random.default_rng(0).normal(size=(T, N, D))


def layer_of(kind="elman", **settings):
    return KINDS[kind](D, H, dtype=np.float64, rng=1, **settings)


def results(layer, x=x, **arguments):
    """Outputs, final state, and every gradient."""
    layer.zero_grad()
    outputs, final = layer(x, **arguments)
    states = final if isinstance(final, tuple) else (final,)
    sum(((y * y).sum() for y in (outputs, *states)), start=0.0).backward()
    return [y.numpy() for y in (outputs, *states)] + [p.grad for p in layer.parameters()]


def same(found, wanted):
    for f, w in zip(found, wanted, strict=True):
        assert_array_equal(f, w)


# --- how a layer unrolls whole rows -----------------------------------------------------------------------------------

CHANGES = [
    ("reverse", True), ("message_clip", 0.01), ("remat", True), ("remat", 1), ("remat", 2), ("backend", "graph"),
    ("zoneout", 0.5), ("recurrent_dropout", 0.5), ("batch_first", True), ("learn_initial_state", False),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_setting_that_is_set_after_a_call_holds_at_the_next(kind, name, value):
    called, new = layer_of(kind), layer_of(kind)
    before = results(called)
    setattr(called, name, value)
    setattr(new, name, value)
    called._rng = np.random.default_rng(3)  # that of masks
    new._rng = np.random.default_rng(3)
    after = results(called)
    same(after, results(new))
    if not (called.zoneout or called.recurrent_dropout):  # which are drawn anew
        same(results(called), after)
    if name not in ("remat", "backend", "learn_initial_state"):
        assert any(a.shape != b.shape or (a != b).any() for a, b in zip(after, before, strict=True))
    setattr(called, name, getattr(layer_of(kind), name))
    for _ in range(2):
        same(results(called), before)


@pytest.mark.parametrize("kind", KINDS)
def test_from_shape_to_shape_and_back_to_lengths(kind):
    layer, longer = layer_of(kind), np.concatenate([x, x])
    many = {"x": x}, {"x": longer}, {"x": x, "lengths": [5, 2]}, {"x": x}, {"x": x[:, :1]}, {"x": longer}
    for given in (given for given in many for _ in range(2)):
        same(results(layer, **given), results(layer_of(kind), **given))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_that_are_replaced_or_set_to_none_after_a_call(kind):
    called, new = layer_of(kind), layer_of(kind)
    results(called)
    for layer in called, new:
        layer.W_hh = mr.layers.module.Parameter(0.5 * layer.W_hh.data)
        layer.b_h = None
    for _ in range(2):
        same(results(called), results(new))
    for layer in called, new:
        layer.b_h = mr.layers.module.Parameter(np.full(layer.gates * H, 0.1))
        layer.W_xh.requires_grad = False
    assert len([g for g in results(called) if g is None]) == 1
    same([g for g in results(called) if g is not None], [g for g in results(new) if g is not None])


@pytest.mark.parametrize(("alone", "wanted"), [(1 << 18, 1), (0, 3)])
def test_shapes_that_threads_may_share_are_asked_for_again_when_their_number_is_another(monkeypatch, alone, wanted):
    layer, asked, threads = layer_of(), [], mr.layers.threads
    plan = threads.plan
    monkeypatch.setattr(threads, "ALONE", alone)
    monkeypatch.setattr(threads, "plan", lambda *sizes: asked.append(sizes) or plan(*sizes))
    for count in 2, 2, 1, 1, 2, 2:
        monkeypatch.setattr(threads._state, "threads", count)
        layer(x)
    assert len(asked) == wanted


# --- a call like the one before ---------------------------------------------------------------------------------------


def no_door(monkeypatch):
    """Whoever goes by the door fails."""
    monkeypatch.setattr(Layer, "arrange", lambda *_, **__: pytest.fail("went by the door"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_like_the_one_before_goes_past_the_door_and_gives_the_same(monkeypatch, kind):
    layer = layer_of(kind)
    first = results(layer)
    by_the_door = results(layer, lengths=[T] * N)
    refilled = x.copy()
    with monkeypatch.context() as patch:
        no_door(patch)
        again = results(layer)
        read = mr.Tensor(x, requires_grad=True)
        same(results(layer, read), first)
        outputs, _ = layer(refilled)
    same(again, first)
    same(again, by_the_door)
    refilled[...] = 7.0
    layer.zero_grad()
    (outputs * outputs).sum().backward()
    wanted = layer_of(kind)
    by_the_door = mr.Tensor(x, requires_grad=True)
    results(wanted, by_the_door)
    assert_array_equal(read.grad, by_the_door.grad)
    wanted.zero_grad()
    outputs, _ = wanted(x)
    (outputs * outputs).sum().backward()
    same([p.grad for p in layer.parameters()], [p.grad for p in wanted.parameters()])


@pytest.mark.parametrize(("kind", "given"), [
    ("elman", {"reset": np.zeros((T, N), bool)}), ("elman", {"all_states": True}),
    ("elman", {"initial_state": np.zeros((N, H)).tolist()}), ("elman", {"initial_state": np.zeros((N, H), "f")}),
    ("elman", {"initial_state": np.zeros((1, N, H))}), ("lstm", {"initial_state": np.zeros((N, H))}),
    ("lstm", {"initial_state": [np.zeros((N, H))] * 3}),
])  # fmt: skip
def test_what_else_is_given_beside_x_goes_by_the_door(monkeypatch, kind, given):
    layer = layer_of(kind)
    layer(x)
    no_door(monkeypatch)
    layer(x)
    with pytest.raises(pytest.fail.Exception, match="went by the door"):
        layer(x, **given)


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_the_right_kind_goes_past_it_too(monkeypatch, kind, tensors):
    layer, rng = layer_of(kind), np.random.default_rng(2)
    arrays = [rng.normal(size=(N, H)) for _ in layer.state_names]
    given = [mr.Tensor(a, requires_grad=True) for a in arrays] if tensors else arrays
    state = given[0] if len(given) == 1 else tuple(given)
    wanted = results(layer, initial_state=state)
    wanted += [s.grad for s in given] if tensors else []
    layer(x)
    no_door(monkeypatch)
    for s in given if tensors else ():
        s.grad = None
    found = results(layer, initial_state=state)
    same(found + [s.grad for s in given] if tensors else found, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_state_that_is_an_array_a_copy_is_kept(monkeypatch, kind):
    """`create_graph` reads it again."""
    layer, found = layer_of(kind), []
    for change in 0.0, 7.0:
        state = [np.full((N, H), 0.5) for _ in layer.state_names]
        outputs, _ = layer(x, state[0] if len(state) == 1 else state)
        for array in state:
            array += change
        first = mr.grad((outputs * outputs).sum(), layer.parameters(), create_graph=True)
        found.append([g.numpy() for g in mr.grad(sum((g * g).sum() for g in first), layer.parameters())])
        no_door(monkeypatch)
    same(*found)


# --- lengths of a call like the one before ----------------------------------------------------------------------------

DRAWS = [5, 2], [1, 4], [5, 5], [3, 3], [1, 1]
WIDE = np.random.default_rng(4).normal(size=(60, 400, D))
FORMS = {
    "list": list, "tuple": tuple, "int64": np.array, "int32": lambda d: np.array(d, np.int32),
    "uint8": lambda d: np.array(d, np.uint8), "Tensor": lambda d: mr.Tensor(np.array(d)),
}  # fmt: skip


MADE = {activation: functools.partial(layer_of, activation=activation) for activation in ("tanh", "sigmoid", "relu")}
MADE |= {kind: functools.partial(layer_of, kind) for kind in ("lstm", "gru")}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
@pytest.mark.parametrize("form", FORMS)
def test_lengths_go_past_the_door_and_give_the_same(monkeypatch, form, make):
    """What the kernel sees is as the door makes it, so the results have the same bits; nothing of a draw is kept."""
    layer = make()
    wanted = [results(make(), lengths=list(draw)) for draw in DRAWS]
    layer(x, lengths=[T, 1])
    no_door(monkeypatch)
    for draw, by_the_door in zip(DRAWS, wanted, strict=True):
        lengths = FORMS[form](draw)
        same(results(layer, lengths=lengths), by_the_door)
        same(results(layer, mr.Tensor(x, requires_grad=True), lengths=lengths), by_the_door)


@pytest.mark.parametrize("rows", [1, 2, 90, 400])  # the rows are padded, or fall, or are in lanes
@pytest.mark.parametrize("garbage", [0.0, 999.0, -1e300, np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_the_padding_counts_nothing_past_the_door(monkeypatch, garbage, rows, kind):
    layer, wide = layer_of(kind), WIDE[:, :rows]
    lengths = np.arange(rows) % 60 + 1
    padding = (np.arange(60)[:, None] >= lengths)[..., None]
    wanted = results(layer_of(kind), np.where(padding, 0.0, wide), lengths=lengths)
    layer(wide)
    no_door(monkeypatch)
    given = np.where(padding, garbage, wide)
    read = mr.Tensor(given, requires_grad=True)
    same(results(layer, given, lengths=lengths), wanted)
    same(results(layer, read, lengths=lengths), wanted)
    assert_array_equal(read.grad.any(axis=2), ~padding[..., 0])
    assert_array_equal(read.numpy(), given)


@pytest.mark.parametrize("make", [MADE[name] for name in ("tanh", "sigmoid", "lstm", "gru")])
@pytest.mark.parametrize("garbage", [1.0, -1e300, np.nan, np.inf])
@pytest.mark.parametrize("rows", [1, 2, 90])
def test_no_gradient_enters_in_the_padding_past_the_door(monkeypatch, garbage, rows, make):
    """Where the final state has none; the gradient handed in is not written into."""
    layer, wide = make(), WIDE[:, :rows]
    lengths = np.arange(rows) % 60 + 1
    padding = np.repeat((np.arange(60)[:, None] >= lengths)[..., None], H, axis=2)
    found = []
    for value in 0.0, garbage:
        g = np.where(padding, value, 0.5)
        read, before = mr.Tensor(wide, requires_grad=True), g.copy()
        layer.zero_grad()
        layer(read, lengths=lengths)[0].backward(g)
        found.append([read.grad, *(p.grad for p in layer.parameters())])
        assert_array_equal(g, before)
        no_door(monkeypatch)
    same(*found)


def test_second_order_past_the_door(monkeypatch):
    """Where the lengths are needed once more they are those of the call, whatever has become of the array since."""
    layer, found = layer_of(), []
    for _ in range(2):
        lengths = np.array([5, 2])
        outputs, _ = layer(x, lengths=lengths)
        lengths[...] = 1
        first = mr.grad((outputs * outputs).sum(), layer.parameters(), create_graph=True)
        found.append([g.numpy() for g in mr.grad(sum((g * g).sum() for g in first), layer.parameters())])
        no_door(monkeypatch)
    same(*found)


@pytest.mark.parametrize("wrong", [[T + 1, 1], [1, 0], [T], [[T, T]], [1.5, 2], "ab", np.array([True, False])])
def test_wrong_lengths_are_refused_past_the_door_with_the_same_text(monkeypatch, wrong):
    layer, texts = layer_of(), []
    for _ in range(2):
        with pytest.raises((TypeError, ValueError)) as info:
            layer(x, lengths=wrong)
        texts.append((type(info.value), str(info.value)))
        layer(x, lengths=[T, 1])
        no_door(monkeypatch)
    assert texts[0] == texts[1]
    assert texts[0][1].startswith("RecurrentLayer: lengths must")


def test_x_that_has_changed_before_backward(monkeypatch):
    """An array may be written into, since a copy is kept; a Tensor's new data are refused."""
    layer, wanted = layer_of(), results(layer_of(), lengths=[5, 2])
    layer(x, lengths=[1, 4])
    no_door(monkeypatch)
    refilled, read = x.copy(), mr.Tensor(x.copy(), requires_grad=True)
    layer.zero_grad()
    outputs, final = layer(refilled, lengths=[5, 2])
    loss = (outputs * outputs).sum() + (final * final).sum()
    refilled[...] = 7.0
    loss.backward()
    same([p.grad for p in layer.parameters()], wanted[2:])
    outputs, _ = layer(read, lengths=[5, 2])
    read.data = read.data * 2
    with pytest.raises(RuntimeError, match="changed"):
        outputs.sum().backward()


def test_in_reverse_lengths_go_by_the_door(monkeypatch):
    layer = layer_of(reverse=True)
    layer(x, lengths=[T, 1])
    no_door(monkeypatch)
    layer(x)
    with pytest.raises(pytest.fail.Exception, match="went by the door"):
        layer(x, lengths=[T, 1])


@pytest.mark.parametrize("other", [x.tolist(), x.astype(np.float32), x[:4], mr.Tensor(x[:4]), x.view(np.recarray)])
def test_so_does_another_kind_of_x(monkeypatch, other):
    layer = layer_of()
    layer(x)
    no_door(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="went by the door"):
        layer(other)


@pytest.mark.parametrize("mode", [mr.no_grad, mr.detect_anomaly])
def test_so_it_is_in_other_modes(monkeypatch, mode):
    layer = layer_of()
    layer(x)
    no_door(monkeypatch)
    with mode(), pytest.raises(pytest.fail.Exception, match="went by the door"):
        layer(x)


@pytest.mark.parametrize("settings", [{"batch_first": True}, {"learn_initial_state": True}, {"recurrent_dropout": 0.5},
                                      {"remat": True}, {"backend": "graph"}, {"zoneout": 0.5}])  # fmt: skip
def test_and_so_it_is_with_settings_for_which_the_door_does_more(monkeypatch, settings):
    layer = layer_of(**settings).eval()
    layer(x)
    no_door(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="went by the door"):
        layer(x)


def test_a_door_of_ones_own_is_gone_by():
    class Own(mr.RecurrentLayer):
        def arrange(self, x, *more):
            return super().arrange(2 * x, *more)

    own, plain = Own(D, H, dtype=np.float64, rng=1), layer_of()
    for _ in range(3):
        same(results(own), results(plain, 2 * x))


def test_weights_that_are_made_anew_at_each_call_are():
    class Scaled(mr.RecurrentLayer):
        scale = 1.0

        @property
        def weights(self):
            return [self.W_xh * self.scale, self.W_hh, self.b_h]

    layer, plain = Scaled(D, H, dtype=np.float64, rng=1), layer_of()
    for scale in 1.0, 2.0, 3.0:
        Scaled.scale = scale
        plain.W_xh.data = scale * layer.W_xh.data
        for _ in range(2):
            same([layer(x)[0].numpy()], [plain(x)[0].numpy()])


def test_a_state_that_serves_many_calls_cannot_be_written_into():
    layer = layer_of("lstm")
    layer(x)
    states = vars(layer)["_kept"].whole.fresh
    assert not any(state.flags.writeable for state in states)


# --- zero_grad --------------------------------------------------------------------------------------------------------


def graded(module):
    for p in module.parameters():
        p.grad = np.ones(p.shape)
    return module


def test_zero_grad_finds_what_was_set_replaced_or_deleted_since_it_was_last_called():
    model = graded(mr.SequenceModel(layer_of(), mr.Linear(H, 1, dtype=np.float64)))
    model.zero_grad()
    old, model.head.weight = model.head.weight, mr.layers.module.Parameter(np.ones((H, 1)))
    model.head.bias = None
    model.recurrent.extra = mr.Linear(2, 2)
    graded(model)
    old.grad = np.ones(old.shape)
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    assert old.grad is not None
    model.head.bias = mr.layers.module.Parameter(np.ones(1))
    gone = model.recurrent.extra
    del model.recurrent.extra
    graded(model), graded(gone)
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    assert gone.weight.grad is not None


def test_zero_grad_finds_what_is_put_into_a_list_or_a_dict_of_modules_and_what_is_taken_out():
    several, named = mr.ModuleList([mr.Linear(1, 1)]), mr.ModuleDict({"a": mr.Linear(1, 1)})
    for module in several, named:
        module.zero_grad()
    several.append(mr.Linear(1, 1))
    taken = [several.pop(0), named["a"]]
    named["b"] = mr.Linear(1, 1)
    del named["a"]
    for module in (several, named, *taken):
        graded(module)
    for module in several, named:
        module.zero_grad()
        assert all(p.grad is None for p in module.parameters())
    assert all(module.weight.grad is not None for module in taken)


def test_zero_grad_still_refuses_what_hides_in_a_list_that_was_empty():
    module = mr.Linear(1, 1)
    module.more = []
    module.zero_grad()
    module.more.append(mr.Linear(1, 1))
    with pytest.raises(TypeError, match="parameters\\(\\) would not find what this list holds"):
        module.zero_grad()


def test_a_child_that_clears_its_gradients_in_its_own_way_does():
    class Own(mr.Linear):
        called = 0

        def zero_grad(self):
            Own.called += 1

    model = mr.Sequential(Own(1, 1))
    model.zero_grad()
    model.zero_grad()
    assert Own.called == 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_no_copy_has_what_was_kept(copied):
    layer = layer_of()
    results(layer)
    other = copied(layer)
    assert "_kept" in vars(layer)
    assert "_kept" not in vars(other)
    other.reverse = True
    new = layer_of(reverse=True)
    same(results(other), results(new))
    if copied is not copy.copy:
        graded(layer)
        other.zero_grad()
        assert all(p.grad is not None for p in layer.parameters())


def test_nothing_stays_of_what_was_being_found_while_an_attribute_was_set():
    layer = layer_of()
    kept = layer._keep()
    layer.reverse = True  # by another thread
    kept.whole = "old"
    assert "_kept" not in vars(layer)
    same(results(layer), results(layer_of(reverse=True)))
    assert isinstance(vars(layer)["_kept"], Kept)
