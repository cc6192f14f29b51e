"""A way back of a single kernel goes past the queue of `tape.run`, and gives what that gives."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minirnn as mr
from minirnn.autograd import gradients, tape
from minirnn.autograd.record import apply_kernel

T, N, D, H = 5, 2, 3, 4
KINDS = {"elman": mr.RecurrentLayer, "lstm": mr.LSTMLayer, "gru": mr.GRULayer}
rng = np.random.default_rng(0)
x, g = rng.normal(size=(T, N, D)), rng.normal(size=(T, N, H))


def layer_of(kind="elman", **settings):
    return KINDS[kind](D, H, dtype=np.float64, rng=1, **settings)


@pytest.fixture
def no_queue(monkeypatch):
    """Whoever takes the queue fails."""
    monkeypatch.setattr(tape, "run", lambda *_, **__: pytest.fail("took the queue"))


def both_ways(monkeypatch, go):
    """Return what a function gives straight, and by the queue."""
    straight = go()
    with monkeypatch.context() as patch:
        patch.setattr(gradients, "straight", lambda *_: None)
        return straight, go()


def test_it_is_taken(no_queue):
    layer = layer_of()
    layer(x)[0].backward(g)
    layer(mr.Tensor(x, requires_grad=True))[1].backward(g[0])
    with pytest.raises(pytest.fail.Exception, match="took the queue"):
        (layer(x)[0] * 1.0).backward(g)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["outputs", "final", "lengths", "x", "frozen", "hook on a leaf", "twice", "kept"])
def test_it_gives_what_the_queue_gives(monkeypatch, kind, what):
    def go():
        layer = layer_of(kind)
        read = mr.Tensor(x, requires_grad=what == "x")
        layer.W_hh.requires_grad = what != "frozen"
        if what == "hook on a leaf":
            layer.W_hh.register_hook(lambda d: 2 * d)
        for _ in range(1 + (what == "twice")):
            outputs, final = layer(read, lengths=[5, 2] if what == "lengths" else None)
            h = layer.last_output(final)
            (h if what == "final" else outputs).backward(g[0] if what == "final" else g, retain_graph=what == "kept")
        if what == "kept":
            outputs.backward(g)
        return [t.grad for t in (read, *layer.parameters())]

    straight, queue = both_ways(monkeypatch, go)
    assert [a is None for a in straight] == [a is None for a in queue]
    for a, b in zip(straight, queue, strict=True):
        if a is not None:
            assert_array_equal(a, b)
    assert any(a is not None for a in straight)


def test_a_leaf_that_is_read_twice_gets_the_sum(monkeypatch, no_queue):
    leaf = mr.Tensor([1.0, 2.0], requires_grad=True)
    (y,) = apply_kernel(layer_of(), (leaf, leaf), [leaf.data * 3], lambda r, _: (r[0] * 1, r[0] * 2), lambda *_: [])
    y.backward([1.0, 10.0])
    assert_array_equal(leaf.grad, [3.0, 30.0])


def test_gradients_that_share_memory_are_taken_apart(no_queue):
    a, b = (mr.Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    (y,) = apply_kernel(layer_of(), (a, b), [a.data * 3], lambda r, _: (r[0], r[0]), lambda *_: [])
    given = np.ones(2, np.float32)
    y.backward(given)
    assert not any(np.shares_memory(p, q) for p, q in ((a.grad, b.grad), (a.grad, given), (b.grad, given)))


@pytest.mark.parametrize("change", ["hook on the output", "retain_grad", "detect_anomaly", "a state that was made"])
def test_where_more_is_asked_for_it_goes_by_the_queue(monkeypatch, change):
    layer, seen = layer_of(), []
    state = layer(x)[1] if change == "a state that was made" else None
    outputs, _ = layer(x, state)
    if change == "hook on the output":
        outputs.register_hook(lambda d: seen.append(d) or 2 * d)
    if change == "retain_grad":
        outputs.retain_grad()
    run = tape.run
    monkeypatch.setattr(tape, "run", lambda *given, **more: seen.append("queue") or run(*given, **more))
    if change == "detect_anomaly":
        with mr.detect_anomaly():
            outputs.backward(g)
    else:
        outputs.backward(g)
    assert seen[0] == "queue"
    assert layer.W_hh.grad is not None
    if change == "retain_grad":
        assert_array_equal(outputs.grad, g)


def test_the_graph_is_used_up_and_the_errors_are_the_same(monkeypatch):
    def go():
        layer, told = layer_of(), []
        outputs, final = layer(x)
        outputs.backward(g)
        for used in outputs, final:
            with pytest.raises(tape.FreedGraphError) as error:
                used.backward(np.ones(used.shape))
            told.append(str(error.value))
        outputs, _ = layer(x)
        layer.W_hh.data = layer.W_hh.data * 2
        grads = [p.grad for p in layer.parameters()]
        with pytest.raises(tape.ChangedParameterError) as error:
            outputs.backward(g)
        assert all(p.grad is grad for p, grad in zip(layer.parameters(), grads, strict=True))
        return [*told, str(error.value)]

    straight, queue = both_ways(monkeypatch, go)
    assert straight == queue
    assert len({*straight}) == 2


def test_a_graph_that_is_kept_can_still_be_differentiated_again():
    layer = layer_of()
    outputs, _ = layer(x)
    outputs.backward(g, retain_graph=True)
    (first,) = mr.grad(outputs, layer.W_hh, gradient=g, create_graph=True)
    np.testing.assert_allclose(first.numpy(), layer.W_hh.grad, rtol=1e-12)
    (second,) = mr.grad((first * first).sum(), layer.W_hh)
    assert second.numpy().any()
