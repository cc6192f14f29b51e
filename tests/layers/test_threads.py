"""Eight threads at once: with graphs of their own, and with leaves in common."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minirnn as mr
from minirnn.autograd import gradients

THREADS = 8


@pytest.fixture(autouse=True)
def hurried():
    """Switch threads as often as Python can, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(work, n=THREADS):
    """Run work(0) … work(n − 1) in threads that start together; return their results in order."""
    barrier = threading.Barrier(n)

    def started(i):
        barrier.wait(30)
        return work(i)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(started, range(n)))


def sequence(i, T=6, N=2, D=3):
    return np.random.default_rng(i).normal(size=(T, N, D))


def loop(x, w, u, b):
    h = mr.Tensor(np.zeros((x.shape[1], u.shape[0])))
    loss = 0.0
    for t in range(x.shape[0]):
        h = mr.tanh(x[t] @ w + h @ u + b)
        loss = loss + (h * h).sum()
    return loss


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    return [mr.Tensor(0.3 * rng.normal(size=s), requires_grad=True) for s in ((3, 4), (4, 4), (4,))]


def test_eight_threads_with_their_own_graphs_get_the_serial_answers_bit_for_bit():
    def work(i):
        results = []
        for k in range(5):
            own, x = parameters(i), mr.Tensor(sequence(10 * i + k), requires_grad=True)
            loss = loop(x, *own)
            (g,) = mr.grad(loss, x, create_graph=True)
            (loss + (g * g).sum()).backward()
            results += [loss.item(), x.grad, *(p.grad for p in own)]
        return results

    serial = [work(i) for i in range(THREADS)]
    for ours, expected in zip(at_once(work), serial, strict=True):
        for a, b in zip(ours, expected, strict=True):
            assert_array_equal(a, b)


def shared_by_threads(shared, loss):
    """Threads that add to the gradients of the same parameters leave what one thread leaves."""

    def work(i):
        losses = [loss(sequence(100 * i + k)) for k in range(4)]
        for one in losses:
            one.backward()
        return [one.item() for one in losses]

    serial = [work(i) for i in range(THREADS)]
    expected = [p.grad for p in shared]
    for p in shared:
        p.grad = None
    assert at_once(work) == serial
    for p, e in zip(shared, expected, strict=True):
        assert_allclose(p.grad, e, rtol=1e-12, atol=1e-13)
        assert np.abs(e).max() > 0


@pytest.mark.parametrize("backend", ["fused", "graph"])
@pytest.mark.parametrize("make", [mr.RecurrentLayer, mr.GRULayer])
def test_eight_threads_sharing_a_layer_leave_the_serial_sum(make, backend):
    layer, head = make(3, 4, backend=backend, dtype=np.float64, rng=0), mr.Linear(4, 2, dtype=np.float64, rng=1)

    def loss(x):
        outputs, final = layer(x)
        return (head(outputs) ** 2).mean() + mr.tanh(final).sum()

    shared_by_threads([*layer.parameters(), *head.parameters()], loss)


def test_eight_threads_sharing_plain_parameters_leave_the_serial_sum():
    shared = parameters()
    shared_by_threads(shared, lambda x: loop(x, *shared))


def count_to(n, leaf):
    def work(_):
        for _ in range(n):
            leaf.backward(np.ones(3))

    at_once(work)
    return leaf.grad


def test_no_gradient_is_lost_when_many_add_to_one_leaf(monkeypatch):
    """With a sum that is read and written back a moment later, some would be; without the lock, some are."""

    class Slow(mr.Tensor):
        """A leaf whose grad takes a moment to write."""

        __slots__ = ()

    slot = mr.Tensor.__dict__["_grad"]

    def write(self, value):
        threading.Event().wait(1e-5)
        slot.__set__(self, value)

    Slow._grad = property(slot.__get__, write)
    assert_array_equal(count_to(20, Slow(np.zeros(3), True)), 20 * THREADS)  # whole numbers: exact in any order
    monkeypatch.setattr(gradients, "_ACCUMULATE", nullcontext())
    assert (count_to(20, Slow(np.zeros(3), True)) < 20 * THREADS).any()
