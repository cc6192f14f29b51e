"""The pass through the tape: sums, ownership, depth, memory, refusals, hooks; and the textbook's tape beside it."""

import gc
import itertools
import sys
import tracemalloc
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minirnn as mr
from minirnn import textbook
from minirnn.autograd.shapes import IndexedGradient
from minirnn.autograd.tape import Node


def leaf(data, dtype=np.float64):
    return mr.Tensor(np.array(data, dtype), requires_grad=True)


def nodes_behind(output):
    """Every node of the graph behind a Tensor, newest first."""
    found, todo = {}, [output.node]
    while todo:
        node = todo.pop()
        if isinstance(node, Node) and node not in found:
            found[node] = None
            todo += node.receivers()
    return sorted(found, key=lambda node: node.number)


@pytest.fixture
def no_cycles():
    """Run without the cycle collector: what dies, dies because nothing refers to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def shallow():
    """Python's default recursion limit, whatever other tests have set."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


# --- sums over paths --------------------------------------------------------------------------------------------------


def test_fan_out_every_use_of_a_value_adds_its_gradient():
    x = leaf([2.0, 3.0])
    y = x * x  # one op, twice
    z = y + x + y * x + x.sum()  # four more uses, over three paths
    z.sum().backward()
    # d/dx Σ (x² + x + x³ + Σx) = 2x + 1 + 3x² + n
    assert_array_equal(x.grad, 2 * x.data + 1 + 3 * x.data**2 + 2)


def test_one_value_as_several_inputs_of_one_op():
    for f, expected in (
        (lambda x: x + x, 2.0), (lambda x: x - x, 0.0), (lambda x: x * x, 6.0), (lambda x: x / x, 0.0),
        (lambda x: x**x, 27 * (np.log(3) + 1)), (lambda x: mr.maximum(x, x), 1.0),
        (lambda x: mr.where([True, False], x, x), 1.0), (lambda x: mr.stack([x, x, x]).sum(axis=0), 3.0),
        (lambda x: mr.concatenate([x, x * 2, x])[:2], 1.0), (lambda x: x[[0, 0, 1]] * 1.0, [2.0, 1.0]),
    ):  # fmt: skip
        x = leaf([3.0, 3.0])
        f(x).sum().backward()
        assert_allclose(x.grad, np.broadcast_to(expected, 2), rtol=1e-14)


def test_diamonds_on_diamonds_visit_each_node_once():
    x = leaf(1.0)
    y, calls = x * 1.0, []
    for _ in range(40):  # 2^40 paths
        y = 0.5 * y + 0.5 * y
        y.register_hook(calls.append)
    y.backward()
    assert x.grad == 1.0
    assert len(calls) == 40


def test_gradients_accumulate_over_calls_until_set_to_none():
    x, c = leaf([1.0, 2.0]), mr.Tensor([2.0, 2.0])
    for make in (lambda: (x * c).sum(), lambda: (x * c * np.ones(2)).mean() * 2.0):
        for k in (1, 2, 3):
            make().backward()
            assert_array_equal(x.grad, [2.0 * k, 2.0 * k])
        x.grad = None
    assert c.grad is None, "it did not ask for one"
    for shape in ((), (1,), (1, 1)):  # one number needs no gradient given
        one = leaf(np.full(shape, 5.0))
        (one * 3.0).backward()
        one.backward()
        assert_array_equal(one.grad, np.full(shape, 4.0))


# --- who owns a gradient ----------------------------------------------------------------------------------------------


def independent(*arrays):
    return not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


@pytest.mark.parametrize("shape", [(2,), ()])
def test_gradients_of_two_leaves_are_two_arrays_and_neither_is_the_caller_s(shape):
    p, q, x, g = leaf(np.ones(shape)), leaf(np.ones(shape)), leaf(np.ones(shape)), np.full(shape, 5.0)
    (p + q).backward(g)
    x.backward(g)
    first = x.grad
    assert independent(p.grad, q.grad, first, g)
    x.backward(g)
    assert_array_equal(first, g)
    assert_array_equal(x.grad, 2 * g)
    for f in (lambda p, q: (p + q) * 2.0, lambda p, q: (p + q) + (p + q), lambda p, q: (p + q)[...]):
        p.grad = q.grad = None
        f(p, q).sum().backward()  # the last step hands one array to both
        assert independent(p.grad, q.grad)


def test_gradients_that_only_change_shape_are_owned_too():
    for f in (
        lambda p, q: p.reshape(3, 2).T + q.T.reshape(2, 3),
        lambda p, q: mr.concatenate([p, q])[:2] + mr.concatenate([q, p])[2:],
        lambda p, q: mr.stack([p, q]).sum(axis=0),
        lambda p, q: p[::-1] + q.swapaxes(0, 1).swapaxes(0, 1),
        lambda p, q: p.broadcast_to((2, 3)) + mr.flip(q),
        lambda p, q: p[None][0] + mr.expand_dims(q, 0).squeeze(0),
        lambda p, q: p + q[...],
    ):
        p, q, g = leaf(np.ones((2, 3))), leaf(np.ones((2, 3))), np.arange(6.0).reshape(2, 3)
        for _ in range(2):
            f(p, q).backward(g)
            assert independent(p.grad, q.grad, g, p.data, q.data)
            assert p.grad.base is None
        assert_array_equal(g, np.arange(6.0).reshape(2, 3))


# --- depth, time and memory -------------------------------------------------------------------------------------------

DEEP = 30_000


def deep_chain(x, n=DEEP):
    y = x
    for _ in range(n):
        y = y + 1.0
    return y


def test_a_deep_chain_of_ops_goes_back_under_the_default_recursion_limit(shallow):
    x = leaf(1.0)
    deep_chain(x).backward()
    assert x.grad == 1.0


def test_a_deep_chain_of_ops_is_dropped_without_a_backward(shallow, no_cycles):
    y = deep_chain(leaf(1.0))
    deepest = weakref.ref(nodes_behind(y)[-1])
    del y
    assert deepest() is None


def test_a_deep_chain_of_ops_gives_a_differentiable_gradient_under_the_default_recursion_limit(shallow):
    x = leaf(1.0)
    y = x * x
    for _ in range(10_000):
        y = y * 1.0
    (g,) = mr.grad(y, x, create_graph=True)
    (h,) = mr.grad(g, x)
    assert (g.item(), h.item()) == (2.0, 2.0)


def events_during(f):
    """How many Python and C functions are entered while f runs: work, not time."""
    count = itertools.count()
    gc.disable()  # or what other tests have left behind may call something as it goes
    sys.setprofile(lambda _frame, event, _arg: next(count) if event in ("call", "c_call") else None)
    try:
        f()
    finally:
        sys.setprofile(None)
        gc.enable()
    return next(count)


def loop_over_slices(x):
    h = 0.0
    for t in range(x.shape[0]):
        h = mr.tanh(x[t] + 0.5 * h)
    return h.sum()


def loop_over_unbind(x):
    return sum((part * part).sum() for part in mr.unbind(x))


def join_many(join):
    def f(x):
        joined = join([x[t] for t in range(x.shape[0])])
        return (joined * joined).sum()

    return f


def first_order(f, x):
    f(x).backward()
    return x.grad


def second_order(f, x):
    (g,) = mr.grad(f(x), x, create_graph=True)
    (gg,) = mr.grad((g * g).sum(), x)
    return gg.numpy()


LOOPS = [loop_over_slices, loop_over_unbind, join_many(mr.stack), join_many(mr.concatenate)]
LOOP_IDS = ["slices", "unbind", "stack", "concatenate"]


@pytest.mark.parametrize("order", [first_order, second_order])
@pytest.mark.parametrize("f", LOOPS, ids=LOOP_IDS)
def test_the_work_of_a_loop_over_time_is_linear_in_its_length(f, order):
    xs = [leaf(np.full((T, 2), 0.1)) for T in (2, 50, 100)]
    _, short, long = (events_during(lambda x=x: order(f, x)) for x in xs)  # first calls fill caches
    assert long < 2.1 * short


@pytest.mark.parametrize("order", [first_order, second_order])
@pytest.mark.parametrize("f", LOOPS, ids=LOOP_IDS)
def test_the_memory_of_a_loop_over_time_is_linear_in_its_length(f, order):
    def peak(T):
        x = leaf(np.full((T, 2), 0.1))
        gc.collect()  # empties Python's free lists, which tracemalloc would count or not
        tracemalloc.start()
        try:
            order(f, x)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)
    assert peak(240) < 6 * peak(60)


def test_slices_of_one_array_are_written_into_one_buffer(monkeypatch):
    """T slices cost one buffer of T rows: not T buffers, which would be quadratic."""
    T, totals, bytes_made = 30, [], []
    to_dense, zeros = IndexedGradient.to_dense, np.zeros

    def counting_to_dense(self, add_at):
        totals.append(len(self.pieces))
        return to_dense(self, add_at)

    def counting_zeros(shape, *args, **kwargs):
        made = zeros(shape, *args, **kwargs)
        bytes_made.append(made.nbytes)
        return made

    x = leaf(np.full((T, 2), 0.1))
    monkeypatch.setattr(IndexedGradient, "to_dense", counting_to_dense)
    monkeypatch.setattr(np, "zeros", counting_zeros)
    for passes, order in ((1, first_order), (2, second_order)):  # in the pass, and in the pass through it
        totals.clear(), bytes_made.clear()
        order(loop_over_slices, x)
        assert totals == [T] * passes
        assert sum(bytes_made) == passes * x.data.nbytes


def test_slices_and_whole_uses_of_one_array_add_up_in_any_order():
    rng = np.random.default_rng(0)
    w = rng.normal(size=(5, 4, 3))

    def f(x):
        y = x * w[0] + x[1:3].sum() + (x[::-1] * w[1]).sum() + x[1] * w[2][0]
        return y + x[[0, 0, 3]].sum() + (x * w[3]).sum() + x[2, 1] + x[x.data > 0].sum()

    for inner in (lambda x: x, mr.tanh):
        mr.gradcheck(lambda x, inner=inner: f(inner(x)), leaf(rng.normal(size=(4, 3))))
    x = leaf(2.0)
    (x * 2.0 + x[None].sum() * x[()] + x[...]).backward()
    assert x.grad == 2 + 2 * 2 + 1


def test_the_graph_is_freed_as_the_pass_goes_and_no_node_is_alive_after_it(no_cycles):
    x, w = leaf(np.ones((5, 2))), leaf(np.ones((2, 2)))
    h = mr.Tensor(np.zeros(2))
    refs, alive = [], []
    for t in range(5):
        h = mr.tanh(x[t] @ w + h @ w)
        if t == 1:
            h.register_hook(lambda g: alive.append(sum(ref() is not None for ref in refs)))
    loss = (h * h).sum()
    refs += [weakref.ref(node) for node in nodes_behind(loss)]
    assert len(refs) == 5 * 5 + 2
    del h
    loss.backward()
    assert alive == [2 * 5 + 1], "the nodes of steps 0 and 1, and that of the loss, which is held"
    assert [ref() for ref in refs if ref() is not None] == [loss.node]
    del loss
    assert not any(ref() for ref in refs)


def test_a_dropped_graph_leaves_nothing_behind(no_cycles):
    x = leaf([1.0, 2.0])
    y = mr.tanh(x) * x
    y.retain_grad()
    remove = y.register_hook(lambda g: g)
    refs = [weakref.ref(v) for v in (*nodes_behind(y), y, y.numpy())]
    del y, remove
    assert not any(ref() is not None for ref in refs)


@pytest.mark.parametrize("create_graph", [False, True])
def test_memory_is_flat_over_many_updates(create_graph, no_cycles):
    rng = np.random.default_rng(0)
    w, x = leaf(rng.normal(size=(8, 8)) * 0.1), rng.normal(size=(10, 4, 8))

    def update():
        h = mr.Tensor(np.zeros((4, 8)))
        for t in range(10):
            h = mr.tanh(x[t] + h @ w)
        loss = (h * h).mean()
        if create_graph:
            (g,) = mr.grad(loss, w, create_graph=True)
            loss = loss + 0.01 * (g * g).sum()
        w.grad = None
        loss.backward()
        w.data -= 0.01 * w.grad
        return weakref.ref(loss.node)

    refs = [update() for _ in range(5)]
    tracemalloc.start()
    try:
        update()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(30):
            refs.append(update())
        assert not any(ref() for ref in refs), "nodes die without the cycle collector"
        assert gc.collect() == 0, "it has nothing to do; but it empties Python's own free lists"
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 100 * 30, "a weakref and its place in a list for each update, and nothing else"


# --- freed graphs -----------------------------------------------------------------------------------------------------

FREED = r"already used up by an earlier backward\(\) at the output of '{}'\. .*state\.detach\(\).*retain_graph=True"


def test_a_second_backward_is_refused_and_says_what_to_do():
    x = leaf([1.0, 2.0])
    loss = mr.tanh(x).sum()
    loss.backward()
    before = x.grad.copy()
    for again in (loss.backward, lambda: mr.grad(loss, x), lambda: mr.grad(loss, x, create_graph=True)):
        with pytest.raises(mr.FreedGraphError, match=FREED.format("sum")):
            again()
    assert_array_equal(x.grad, before)
    assert issubclass(mr.FreedGraphError, RuntimeError)


def test_a_graph_kept_with_retain_graph_gives_the_same_again():
    x = leaf([1.0, 2.0])
    shared = mr.tanh(x) * x
    loss, other = shared.sum(), (shared * 3.0).sum()
    for keep in (True, True, False):
        x.grad = None
        loss.backward(retain_graph=keep)
        assert_allclose(x.grad, np.tanh(x.data) + x.data * (1 - np.tanh(x.data) ** 2), rtol=1e-14)
    for used_up in (loss, other):
        with pytest.raises(mr.FreedGraphError):
            used_up.backward()


def test_a_new_graph_that_leads_into_a_used_one_is_refused_and_names_the_op_there():
    """Truncated back-propagation with the detach() forgotten."""
    w = leaf([0.5])
    state = mr.tanh(w * 1.0)
    (state * 2.0).sum().backward()
    grad_before = w.grad.copy()
    carried = mr.sigmoid(state + w)
    with pytest.raises(mr.FreedGraphError, match=FREED.format("tanh")):
        carried.sum().backward()
    assert_array_equal(w.grad, grad_before)
    w.grad = None
    mr.sigmoid(state.detach() + w).sum().backward()
    s = mr.sigmoid(state.detach() + w).item()
    assert_allclose(w.grad, s * (1 - s), rtol=1e-15)


# --- changed parameters -----------------------------------------------------------------------------------------------

CHANGED = r"backward: {} was changed after the forward pass: '{}' used version 0 of its data and it is now at version 1"
ADVICE = r"Call backward\(\) before the optimiser's step, or run the forward pass again"


def scale_in_place(t):
    t.data *= 0.5


CHANGES = {
    "assignment": lambda p: setattr(p, "data", p.data + 1.0),
    "in-place subtraction": lambda p: setattr(p, "data", np.subtract(p.data, 0.5, out=p.data)),
    "optimiser": lambda p: (setattr(p, "grad", np.ones(p.shape)), mr.optim.SGD([p], lr=0.1).step()),
    "in place through detach()": lambda p: scale_in_place(p.detach()),
}

READERS = {
    "mul": lambda p, q: p * q, "div": lambda p, q: q / p, "matmul": lambda p, q: q @ p, "pow": lambda p, q: p**q,
    "log": lambda p, q: mr.log(p), "abs": lambda p, q: abs(p), "maximum": lambda p, q: mr.maximum(p, q),
    "clip": lambda p, q: p.clip(0.0, 1.0), "max": lambda p, q: p.max(axis=0), "logsumexp": lambda p, q: mr.logsumexp(p),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_parameter_changed_between_forward_and_backward_is_refused_where_a_rule_reads_it(change):
    for (name, read), mode in itertools.product(READERS.items(), (nullcontext, mr.detect_anomaly)):
        p, q, bystander = leaf([[1.0, 2.0], [3.0, 4.0]]), leaf([[5.0, 6.0], [7.0, 8.0]]), leaf([1.0])
        with mode():
            loss = read(p, q).sum() * bystander.sum()
        change(p)
        p.grad = None
        says = CHANGED.format(r"a Tensor of shape \(2, 2\)", name) + r"\. " + ADVICE
        with pytest.raises(mr.ChangedParameterError, match=says):
            loss.backward()
        assert p.grad is q.grad is bystander.grad is None
        read(p, q).sum().backward()
        assert p.grad is not None
    assert issubclass(mr.ChangedParameterError, RuntimeError)


UNREAD = [
    lambda p, x: x @ p,  # the gradient of p is xᵀ g
    lambda p, x: mr.tanh(p),  # tanh reads its output
    lambda p, x: (p + 0.0) * x * (p - 1.0),  # the product reads outputs, not p
    lambda p, x: p[[0, 1, 1]] ** 2 + (p.T.reshape(4) ** 2).sum(),  # of copies
    lambda p, x: p @ x, lambda p, x: p + x, lambda p, x: p * 3.0, lambda p, x: p / x, lambda p, x: mr.exp(-p),
    lambda p, x: p.sum(axis=0) * 2.0, lambda p, x: p.T[::-1].reshape(4) * 2.0, lambda p, x: mr.softmax(p),
    lambda p, x: mr.where(x > 0, p, 0.0), lambda p, x: mr.concatenate([p, p]), lambda p, x: p.detach() + p,
]  # fmt: skip


def test_a_change_that_no_rule_would_notice_is_no_error_and_the_gradient_is_the_forward_s():
    x = np.array([[1.0, -2.0], [3.0, 4.0]])
    for f in UNREAD:
        p, untouched = leaf([[1.0, 2.0], [3.0, 4.0]]), leaf([[1.0, 2.0], [3.0, 4.0]])
        f(untouched, x).sum().backward()
        loss = f(p, x).sum()
        p.data -= 0.5
        loss.backward()
        assert_array_equal(p.grad, untouched.grad)


VIEWS = [
    lambda p: p.T, lambda p: p[0:2], lambda p: p[1][None].broadcast_to((2, 2)), lambda p: p.swapaxes(0, 1),
    lambda p: p.reshape(4).reshape(2, 2), lambda p: mr.flip(mr.expand_dims(p, 0).squeeze(0)),
    lambda p: p.detach(), lambda p: p.T.detach()[::-1],
]  # fmt: skip


@pytest.mark.parametrize("mode", [nullcontext, mr.no_grad, mr.detect_anomaly])
def test_a_change_is_seen_through_views_too_in_whatever_mode_they_were_made(mode):
    for view in VIEWS:
        p, q = leaf([[1.0, 2.0], [3.0, 4.0]]), leaf([[5.0, 6.0], [7.0, 8.0]])
        for f in (lambda v, q: q @ v, lambda v, q: v * q, lambda v, q: mr.log(v + 0.0 * q) * v * q):
            with mode():
                seen = view(p)
            loss = f(seen, q).sum()
            p.data *= 0.5
            with pytest.raises(mr.ChangedParameterError, match="was changed after the forward pass"):
                loss.backward()
            assert q.grad is None


def test_a_constant_tensor_changed_in_between_is_refused_too_and_a_parameter_is_named_by_its_name():
    x, w = mr.Tensor(np.array([1.0, 2.0])), leaf([3.0, 4.0])
    loss = (x * w).sum()
    x.data *= 2.0
    with pytest.raises(mr.ChangedParameterError, match="'mul' used version 0"):
        loss.backward()
    layer = mr.Linear(2, 2, rng=0)
    loss = (layer(layer(np.ones((1, 2))))).sum()
    layer.weight.data -= 0.1
    with pytest.raises(mr.ChangedParameterError, match=r"parameter weight \(2, 2\) was changed.*'matmul'"):
        loss.backward()


def test_a_change_back_and_forth_is_still_a_change_and_one_before_the_forward_is_none():
    p = leaf([1.0, 2.0])
    p.data = [3.0, 4.0]
    loss = (p * p).sum()
    loss.backward(retain_graph=True)
    assert_array_equal(p.grad, [6, 8])
    p.data += 1.0
    p.data -= 1.0
    for walk in (lambda: loss.backward(retain_graph=True), lambda: mr.grad(loss, p, create_graph=True)):
        with pytest.raises(mr.ChangedParameterError, match="used version 1 of its data and it is now at version 3"):
            walk()


# --- interrupted passes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interrupt", [KeyError, KeyboardInterrupt, MemoryError])
def test_a_pass_that_is_interrupted_leaves_no_gradient_behind_and_the_next_is_right(interrupt):
    rng = np.random.default_rng(0)
    x, w, early = leaf(rng.normal(size=(3, 2))), leaf(rng.normal(size=(2, 2))), leaf(1.0)

    def forward(fail):
        h = x[0] * early
        for t in range(3):
            h = mr.tanh(x[t] + h @ w)
            if t == 1 and fail:
                h.register_hook(stop)
        h.retain_grad()
        return h, (h * early).sum()

    def stop(g):
        raise interrupt

    _, loss = forward(False)
    loss.backward()
    expected = [t.grad.copy() for t in (x, w, early)]
    x.grad = early.grad = None
    w.grad = marker = np.full((2, 2), 7.0)
    h, loss = forward(True)
    with pytest.raises(interrupt):
        loss.backward()
    assert x.grad is early.grad is h.grad is None
    assert w.grad is marker
    assert_array_equal(marker, 7)
    w.grad = None
    _, loss = forward(False)
    loss.backward()
    for t, e in zip((x, w, early), expected, strict=True):
        assert_array_equal(t.grad, e)


def test_a_failing_hook_of_one_leaf_leaves_all_leaves_untouched():
    p, q = leaf([1.0]), leaf([2.0])
    remove = q.register_hook(lambda g: 1 / 0)
    for f in (lambda: p * q, lambda: q * p):
        with pytest.raises(ZeroDivisionError):
            f().sum().backward()
        assert p.grad is q.grad is None
    remove()
    (p * q).sum().backward()
    assert (p.grad, q.grad) == (2.0, 1.0)


# --- what backward refuses --------------------------------------------------------------------------------------------


def test_a_backward_that_cannot_be_is_refused_with_the_reason():
    nothing = "backward: nothing was recorded for this Tensor: no input .* has requires_grad=True, or .*no_grad"
    two, one = leaf([1.0, 2.0]) * 2.0, leaf([1.0])
    reduce = r"reduce it to one number first \(\.sum\(\), \.mean\(\)\), or pass gradient="
    shape = "backward: gradient must have shape"
    for output, given, error, says in (
        (two, (), ValueError, rf"backward: a Tensor of shape \(2,\) needs a gradient of that shape; {reduce}"),
        (two, (np.ones((2, 1)),), ValueError, rf"{shape} \(2,\), got \(2, 1\)"),
        (one, (1.0,), ValueError, rf"{shape} \(1,\), got \(\)"),
        (one, ("x",), TypeError, "backward: gradient must be an array of numbers"),
        (mr.Tensor(1.0), (), RuntimeError, nothing),
        (mr.Tensor(1.0) * 2.0, (), RuntimeError, nothing),
        (one.detach(), (), RuntimeError, nothing),
        (leaf([1.5]).astype(int).sum(), (), RuntimeError, nothing),
    ):
        with pytest.raises(error, match=says):
            output.backward(*given)
    assert one.grad is None
    two.backward(np.ones(2))  # a refusal has not used it up


def test_the_gradient_may_be_a_list_a_tensor_or_of_another_dtype():
    for g in ([1.0, 2.0], mr.Tensor([1.0, 2.0]), np.array([1, 2]), (1, 2)):
        x = leaf([1.0, 1.0], np.float32)
        (x * 2.0).backward(g)
        assert_array_equal(x.grad, [2, 4])
        assert x.grad.dtype == np.float32


# --- hooks and retain_grad --------------------------------------------------------------------------------------------


def test_a_hook_sees_the_total_once_and_may_replace_it():
    for make in (lambda x: x, lambda x: x * 1.0):
        x = leaf([1.0, 2.0])
        y = make(x)
        seen = []
        y.register_hook(seen.append)
        y.register_hook(lambda g: 10.0 * g)
        y.register_hook(seen.append)
        (y + y * 3.0).sum().backward()
        assert_array_equal(seen, [[4, 4], [40, 40]])
        assert_array_equal(x.grad, [40, 40])


def test_a_removed_hook_is_not_called_and_removing_it_twice_removes_no_other():
    for make in (lambda x: x, lambda x: x * 1.0):
        x, calls = leaf([1.0]), []
        y = make(x)
        first, _ = y.register_hook(calls.append), y.register_hook(calls.append)
        first()
        first()
        y.sum().backward()
        assert len(calls) == 1
    x = leaf([1.0])

    def once(g):
        calls.append(g)
        remove()

    remove = x.register_hook(once)
    for _ in range(3):
        x.sum().backward()
    assert len(calls) == 2, "a hook may remove itself"


def test_a_hook_that_returns_another_shape_is_refused_and_no_gradient_is_left():
    results = ((np.ones(3), r"\(3,\)"), (np.float64(2.0), r"\(\)"), (2.0, "float"), ([1.0, 1.0], "list"), ("no", "str"))
    for (result, got), make in itertools.product(results, (lambda x: x, lambda x: x * 1.0)):
        x, other = leaf([1.0, 2.0]), leaf([1.0, 2.0])
        y = make(x)
        y.register_hook(lambda g, result=result: result)
        says = rf"register_hook: the hook must return None or a gradient of shape \(2,\), got {got}"
        with pytest.raises(ValueError, match=says):
            (y * other).sum().backward()
        assert x.grad is other.grad is None


def test_a_hook_cannot_write_into_gradients_that_others_share():
    for register in (lambda p, y: p.register_hook, lambda p, y: y.register_hook):
        p, q = leaf([1.0, 2.0]), leaf([1.0, 2.0])
        y = p + q
        g = np.ones(2)

        def vandal(g):
            g *= 100.0

        register(p, y)(vandal)
        with pytest.raises(ValueError, match="read-only"):
            y.backward(g)
        assert_array_equal(g, 1)


def test_what_a_hook_has_kept_or_handed_over_is_not_the_leaf_s_gradient():
    x, y = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    kept, mine = [], np.array([5.0, 6.0])
    x.register_hook(kept.append)
    y.register_hook(lambda g: mine)
    z = x + y
    z.register_hook(kept.append)
    z.sum().backward()
    assert independent(x.grad, y.grad, mine, *kept)
    x.grad *= 0.0
    y.grad *= 0.0
    assert_array_equal(kept, np.ones((2, 2)))
    assert_array_equal(mine, [5, 6])


def test_a_hook_s_float64_gradient_is_brought_back_to_the_graph_s_float32():
    x = leaf([1.0, 2.0], np.float32)
    y = x * 2.0
    z = mr.tanh(y)
    seen = []
    z.register_hook(lambda g: g.astype(np.float64) * 0.5)
    y.register_hook(lambda g: seen.append(g.dtype))
    x.register_hook(lambda g: mr.Tensor(g.astype(np.float64)))
    z.sum().backward()
    assert seen == [np.float32]
    assert x.grad.dtype == np.float32


def test_a_hook_needs_a_tensor_that_gets_a_gradient():
    with pytest.raises(
        RuntimeError, match="register_hook: this Tensor does not require a gradient, so the hook would never"
    ):
        mr.Tensor([1.0]).register_hook(print)
    with pytest.raises(
        RuntimeError, match="retain_grad: this Tensor does not require a gradient, so it would never get one"
    ):
        mr.Tensor([1.0]).retain_grad()


def test_retain_grad_keeps_the_gradient_after_the_hooks_and_adds_up_like_a_leaf_s():
    x = leaf([1.0, 2.0], np.float32)
    y = x * 2.0
    y.retain_grad()
    y.retain_grad()  # asking twice changes nothing
    y.register_hook(lambda g: g * 10.0)
    x.retain_grad()
    z = (y * y).sum()
    for k, keep in ((1, True), (2, False)):
        z.backward(retain_graph=keep)
        assert_array_equal(y.grad, [40 * k, 80 * k])
        assert_array_equal(x.grad, [80 * k, 160 * k])
    assert y.grad.dtype == np.float32
    assert independent(x.grad, y.grad)


def test_retain_grad_of_the_root_of_a_graph_beside_and_of_an_output_nobody_holds_any_more():
    x = leaf([1.0])
    y, beside, dropped = x * 2.0, x * 5.0, x * 1.0
    for t in (beside, dropped):
        t.retain_grad()
    root = (y + dropped).sum()
    root.retain_grad()
    del dropped
    root.backward()
    assert root.grad == 1.0
    assert beside.grad is None
    assert_array_equal(x.grad, [3])


# --- the textbook's tape ----------------------------------------------------------------------------------------------

STEPS = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "matmul": lambda a, b: a @ b,
    "tanh": lambda a, b: a.tanh(),
    "add a number": lambda a, b: a + b.sum(),
}
ON_THE_TAPE = {
    **STEPS,
    "tanh": lambda a, b: a.tape.do("tanh", a),
    "add a number": lambda a, b: a + b.tape.do("sum", b),
}


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_with_fan_out_have_the_gradients_of_the_textbook_s_tape(seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(3, 3)), rng.normal(size=(3, 3)), rng.normal(size=3)]
    steps = [(str(rng.choice(list(STEPS))), *map(int, rng.integers(0, k + 3, 2))) for k in range(12)]

    def values(leaves, do, tanh):
        made = [leaves[0], leaves[1], leaves[0] + leaves[2]]
        for name, i, j in steps:
            made.append(tanh(do[name](made[i], made[j])))
        total = made[-1]
        for value in made[:-1]:
            total = total + value * value
        return total

    tape = textbook.Tape()
    given = [tape.given(a) for a in arrays]
    theirs = tape.do("sum", values(given, ON_THE_TAPE, lambda v: tape.do("tanh", v)))
    ours = [leaf(a) for a in arrays]
    loss = values(ours, STEPS, mr.tanh).sum()
    assert_allclose(loss.item(), theirs.value, rtol=1e-13)
    loss.backward()
    for t, expected in zip(ours, tape.gradients(theirs, given), strict=True):
        assert_allclose(t.grad, expected, rtol=1e-11, atol=1e-12)
