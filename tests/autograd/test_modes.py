"""no_grad and detect_anomaly: within a block, a function, a thread, a task, and never beyond."""

import contextvars
import inspect
import itertools
import re
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from error_texts import raises
from numpy.testing import assert_array_equal

import minirnn as mr
from minirnn.autograd.modes import ANOMALY, MODE, OBSERVE, OBSERVER, RECORD, observing, switched


def leaf(data, dtype=np.float64):
    return mr.Tensor(np.array(data, dtype), requires_grad=True)


def recording():
    return (leaf(1.0) * 2.0).requires_grad


@pytest.fixture(autouse=True)
def ends_as_it_began():
    assert MODE.get() == RECORD
    yield
    assert MODE.get() == RECORD


# --- no_grad ----------------------------------------------------------------------------------------------------------


def every_way_to_make_a_tensor(x):
    yield from (x + 1.0, -x, x @ x, mr.tanh(x), x.sum(), x[0], x.T, mr.stack([x, x]), x.astype(np.float32), np.exp(x))
    yield from mr.unbind(x)
    yield mr.where([True, False], x, 0.0)


def test_within_no_grad_nothing_is_recorded_or_kept():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    with mr.no_grad():
        silent = list(every_way_to_make_a_tensor(x))
    loud = list(every_way_to_make_a_tensor(x))
    for s, t in zip(silent, loud, strict=True):
        assert not s.requires_grad
        assert s.node is None
        assert t.requires_grad
        assert_array_equal(s.numpy(), t.numpy())
    assert x.requires_grad, "leaves stay what they are"


def test_no_grad_leaves_numpy_s_warnings_on():
    with mr.no_grad(), pytest.warns(RuntimeWarning, match="divide by zero"):
        mr.log(leaf([0.0]))


def test_no_grad_nests_and_ends_with_its_block_whatever_ends_it():
    with mr.no_grad():
        with mr.no_grad():
            assert not recording()
        assert not recording()
    assert recording()
    with pytest.raises(KeyError), mr.no_grad():
        raise KeyError
    assert recording()


def test_no_grad_decorates_a_function_even_one_that_calls_itself_or_fails():
    @mr.no_grad()
    def depth(n, *, y=None):
        """Say what it does."""
        assert not recording()
        if n == 3:
            raise ValueError("deep enough")
        return depth(n + 1) if n >= 0 else y * leaf(2.0)

    for _ in range(2):
        with pytest.raises(ValueError, match="deep enough"):
            depth(0)
        assert recording()
    assert (depth.__name__, depth.__doc__) == ("depth", "Say what it does.")
    assert not depth(-1, y=3.0).requires_grad
    assert recording()


def test_a_graph_made_outside_can_be_gone_back_through_within_no_grad():
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    with mr.no_grad():
        (g,) = mr.grad(loss, x, retain_graph=True)
        (h,) = mr.grad(loss, x, create_graph=True)
        loss.backward()
    assert_array_equal(g.numpy(), [2, 4])
    assert_array_equal(h.numpy(), [2, 4])
    assert not g.requires_grad
    assert h.requires_grad, "create_graph asks for a record, wherever it is called"
    assert_array_equal(x.grad, [2, 4])


def test_a_loss_made_within_no_grad_cannot_be_gone_back_through_and_the_error_says_so():
    with mr.no_grad():
        loss = leaf([1.0]).sum()
    with pytest.raises(RuntimeError, match=r"nothing was recorded for this Tensor: .* or it ran under no_grad\(\)"):
        loss.backward()


def in_threads(*functions):
    """Run each function in a thread of its own, all at once; raise what any of them raised."""
    errors, barrier = [], threading.Barrier(len(functions))

    def guarded(f):
        try:
            barrier.wait(10)
            f()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def test_a_mode_in_one_thread_is_no_concern_of_another():
    entered, checked = threading.Event(), threading.Event()
    seen, callback = watch()

    def silent():
        with mr.no_grad():
            entered.set()
            assert checked.wait(10)
            assert not recording()
        assert recording()

    def loud():
        assert entered.wait(10)
        assert recording()
        with mr.detect_anomaly():
            checked.set()
            assert MODE.get() == RECORD | ANOMALY

    with mr.no_grad(), mr.detect_anomaly(), observing(callback):
        in_threads(silent, loud)
    assert seen == [], "a new thread starts with recording on, and nothing else"


def test_one_decorated_function_may_be_shared_by_threads():
    @mr.no_grad()
    def silent():
        return recording()

    def work():
        for _ in range(200):
            with mr.detect_anomaly():
                with mr.no_grad():
                    assert MODE.get() == ANOMALY
                assert MODE.get() == RECORD | ANOMALY
            assert silent() is False
            assert recording() is True

    in_threads(*[work] * 4)


# --- functions that suspend themselves --------------------------------------------------------------------------------


def pairs(inside=recording):
    """A generator function: yields what it sees, takes what is sent and thrown, returns, and ends when told."""
    try:
        while True:
            try:
                if (yield inside()) == "stop":
                    return inside()
            except KeyError:
                yield ("caught", inside())
    finally:
        END.append(inside())


END = []
HOLDS = {
    "no_grad()": (mr.no_grad(), lambda: MODE.get() == 0),
    "no_grad": (mr.no_grad, lambda: MODE.get() == 0),
    "detect_anomaly()": (mr.detect_anomaly(), lambda: MODE.get() == RECORD | ANOMALY and quiet()),
    "detect_anomaly": (mr.detect_anomaly, lambda: MODE.get() == RECORD | ANOMALY and quiet()),
}


def quiet():
    return set(np.geterr().values()) == {"ignore"}


def outside():
    return MODE.get() == RECORD and not quiet()


@pytest.mark.parametrize(("decorate", "holds"), HOLDS.values(), ids=HOLDS)
def test_a_generator_function_holds_the_mode_while_its_own_code_runs(decorate, holds):
    made = decorate(pairs)
    assert inspect.isgeneratorfunction(made)
    assert (made.__name__, made.__doc__) == ("pairs", pairs.__doc__)
    END.clear()
    two = made(holds), made(holds)  # taken in turns
    for generator in two:
        assert next(generator) is True
        assert outside()
    for generator in two:
        assert generator.send("go on") is True
        assert generator.throw(KeyError()) == ("caught", True)
        assert next(generator) is True
        assert outside()
    with pytest.raises(StopIteration) as stopped:
        two[0].send("stop")
    assert stopped.value.value is True
    two[1].close()
    generator = made(holds)
    next(generator)
    with pytest.raises(ValueError, match="thrown"):
        generator.throw(ValueError("thrown"))
    assert END == [True] * 3
    assert outside()


@pytest.mark.parametrize(("decorate", "holds"), HOLDS.values(), ids=HOLDS)
def test_coroutines_and_async_generators_hold_it_too_and_what_runs_while_they_wait_does_not(decorate, holds):
    class Pause:  # as the futures of a loop do
        def __await__(self):
            return (yield "waiting")

    @decorate
    async def work(n):
        assert holds()
        assert await Pause() == "woken"
        assert holds()
        try:
            await Pause()
        except KeyError:
            return holds() and n

    @decorate
    async def stream(n):
        try:
            for i in range(n):
                assert holds()
                assert await Pause() == "woken"
                try:
                    assert (yield i) == (None if i else "sent")
                except KeyError:
                    yield "caught" if holds() else "lost"
        finally:
            await Pause()
            END.append(holds())

    def drive(coroutine, *, throw=False):
        """Wake it up until it returns, looking at the mode whenever it waits."""
        answer = None
        try:
            while True:
                assert coroutine.send(answer) == "waiting"
                assert outside()
                answer = "woken"
                if throw and coroutine.cr_await is not None:
                    coroutine.send("woken")
                    coroutine.throw(KeyError())
        except StopIteration as stop:
            assert outside()
            return stop.value

    END.clear()
    assert inspect.iscoroutinefunction(work)
    assert inspect.isasyncgenfunction(stream)
    assert drive(work(7), throw=True) == 7

    async def take():
        s = stream(3)
        assert await anext(s) == 0
        assert outside()
        assert await s.asend("sent") == 1
        assert await s.athrow(KeyError()) == "caught"
        assert outside()
        assert [i async for i in s] == [2]
        early = stream(3)
        assert await anext(early) == 0
        await early.aclose()
        return outside()

    assert drive(take()) is True
    assert END == [True, True]


def test_one_block_is_entered_again_within_itself_and_in_threads_and_blocks_end_in_any_order():
    silent, loud = mr.no_grad(), switched(on=RECORD)
    for _ in range(2):
        with silent:
            with silent, loud:
                assert recording()
            assert not recording()
        assert recording()

    def work():
        for _ in range(100):
            with silent:
                assert not recording()
                with loud:
                    assert recording()
            assert recording()

    in_threads(*[work] * 4)

    def leaky():
        with mr.no_grad():
            yield MODE.get()

    one, two = leaky(), leaky()
    assert [next(one), next(two), MODE.get()] == [0, 0, 0], "a block around a yield lasts, as documented"
    one.close()
    assert MODE.get() == 0, "the other one has not ended"
    two.close()
    assert recording()
    elsewhere = contextvars.copy_context()
    three = leaky()
    elsewhere.run(next, three)
    three.close()  # in a context that never entered it
    assert recording()


@pytest.mark.parametrize(("thing", "is_described"), [(3, "3 (int)"), (dict, "<class 'dict'> (type)")])
def test_what_is_no_function_cannot_be_decorated(thing, is_described):
    message = f"a mode holds in a function or a with block, got {is_described}: decorate its methods"
    for decorate in (mr.no_grad, mr.no_grad(), mr.detect_anomaly):
        with raises(TypeError, message):
            decorate(thing)


# --- detect_anomaly ---------------------------------------------------------------------------------------------------

BAD_FORWARDS = {
    "log": (lambda x: mr.log(x), [1.0, 0.0, 2.0], "-inf at [1] (1 of 3 entries not finite)"),
    "div": (lambda x: 1.0 / x, [[1.0, 0.0], [0.0, 2.0]], "inf at [0, 1] (2 of 4 entries not finite)"),
    "sqrt": (lambda x: mr.sqrt(x), [-1.0], "nan at [0] (1 of 1 entries not finite)"),
    "exp": (lambda x: mr.exp(x), 1000.0, "inf at [] (1 of 1 entries not finite)"),
    "mul": (lambda x: x * np.array([1.0, np.nan]), [1.0, 2.0], "nan at [1] (1 of 2 entries not finite)"),
    "sum": (lambda x: x.sum(), [1e308, 1e308], "inf at [] (1 of 1 entries not finite)"),
    "pow": (lambda x: x**0.5, [4.0, -4.0], "nan at [1]"),
    "getitem": (lambda x: x[1:], [1.0, np.nan], "nan at [0]"),
    "matmul": (lambda x: np.full((1, 2), np.inf) @ x, [[1.0], [1.0]], "inf at [0, 0]"),
}


@pytest.mark.parametrize("name", BAD_FORWARDS)
def test_the_op_whose_output_goes_bad_first_is_named_with_the_entry(name):
    f, data, says = BAD_FORWARDS[name]
    says = re.escape(f"detect_anomaly: the output of {name} holds {says}") + ".*look at what goes into it"
    for requires_grad, mode in itertools.product((True, False), (nullcontext, mr.no_grad)):
        x = mr.Tensor(np.array(data), requires_grad=requires_grad)
        with np.errstate(all="ignore"):
            f(x)  # no anomaly is looked for outside
            with mode(), mr.detect_anomaly(), pytest.raises(mr.AnomalyError, match=says):
                mr.tanh(f(x))
            f(x)
    assert issubclass(mr.AnomalyError, ArithmeticError)


def test_the_anomaly_comes_before_numpy_s_own_warning_and_numpy_s_settings_come_back():
    """Warnings are errors in these tests, so numpy's would be seen."""
    x, before = leaf([0.0, 1.0]), np.geterr()
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        mr.log(x)
    with np.errstate(divide="raise"):
        with mr.detect_anomaly():
            for op in (mr.log, lambda x: 1.0 / x, lambda x: mr.sqrt(x - 1.0)):
                with pytest.raises(mr.AnomalyError):
                    op(x)
            with pytest.raises(mr.AnomalyError):
                mr.sqrt(x).sum().backward()
            with mr.no_grad(), mr.detect_anomaly():
                pass
            assert np.geterr()["divide"] == "ignore"
        assert np.geterr()["divide"] == "raise"
    assert np.geterr() == before


def test_finite_numbers_integers_and_bools_pass():
    with mr.detect_anomaly():
        x = leaf([1.0, 2.0])
        mr.tanh(x * 2.0).sum().backward()
        assert (mr.Tensor(np.arange(3)) + 1).numpy().tolist() == [1, 2, 3]
        assert mr.Tensor([True, False])[0].item() is True
        assert mr.Tensor(np.zeros((0, 3))).sum().item() == 0
        mr.grad((x * x).sum(), x, create_graph=True)
    assert x.grad is not None


def test_a_gradient_that_goes_bad_within_the_graph_is_named_by_the_op_whose_output_it_is_of():
    says = r"the gradient of the output of mul holds inf at \[0\] \(1 of 2 .*\): look at what follows it"
    for walk in (lambda loss, x: loss.backward(), mr.grad):
        x = leaf([0.0, 4.0])
        loss = mr.sqrt(x * 3.0).sum()
        with np.errstate(all="ignore"), mr.detect_anomaly(), pytest.raises(mr.AnomalyError, match=says):
            walk(loss, x)
        assert x.grad is None


def test_a_gradient_that_goes_bad_in_the_last_rule_is_named_by_the_leaf():
    x, other = leaf([0.0, 4.0]), leaf([1.0, 1.0])
    with np.errstate(all="ignore"), mr.detect_anomaly():
        says = r"the gradient of a Tensor of shape \(2,\) holds inf at \[0\] .*: look at the ops that it goes into"
        with pytest.raises(mr.AnomalyError, match=says):
            (mr.sqrt(x) + other).sum().backward()
        assert x.grad is other.grad is None
        with pytest.raises(mr.AnomalyError, match=r"the gradient of inputs\[1\] holds inf at \[0\]"):
            mr.grad((mr.sqrt(x) + other).sum(), [other, x])
        with pytest.raises(mr.AnomalyError):
            mr.grad((mr.sqrt(x) + other).sum(), x, create_graph=True)
        weight = mr.Parameter(np.zeros(2), name="weight")
        with pytest.raises(mr.AnomalyError, match=r"the gradient of parameter weight \(2,\) holds inf"):
            mr.sqrt(weight).sum().backward()


def test_a_bad_gradient_given_by_hand_or_by_a_hook_is_caught():
    x = leaf([1.0, 2.0])
    with mr.detect_anomaly():
        with pytest.raises(mr.AnomalyError, match="the gradient of the output of tanh holds nan at"):
            mr.tanh(x).backward([1.0, np.nan])
        remove = x.register_hook(lambda g: g * np.inf)
        with pytest.raises(mr.AnomalyError, match="holds inf"):
            x.sum().backward()
        remove()
    assert x.grad is None


# --- observing --------------------------------------------------------------------------------------------------------


def watch():
    seen = []
    return seen, lambda op, inputs, settings, output: seen.append((op.name, inputs, settings, output))


def test_an_observer_sees_every_op_with_its_inputs_settings_and_output():
    x, w, mask = mr.Tensor(np.ones((2, 3)), requires_grad=True), np.full((3, 4), 0.5), np.ones((2, 4), bool)
    seen, callback = watch()
    with observing(callback):
        z = x @ w
        y = mr.where(mask, z.tanh(), 0.0)
        part = y[:, 1]
        joined = mr.concatenate([part, part], axis=0)
        loss = (2.0 * joined).sum(axis=0)
    names = ["matmul", "tanh", "where", "getitem", "concatenate", "mul", "sum"]
    assert [name for name, *_ in seen] == names
    inputs, settings, outputs = (dict(zip(names, [of[k] for of in seen], strict=True)) for k in (1, 2, 3))
    assert inputs["matmul"][0] is x
    assert inputs["matmul"][1] is w
    assert inputs["tanh"][0] is z is outputs["matmul"]
    assert inputs["where"][1] is outputs["tanh"]
    assert inputs["where"][2] == 0.0
    assert inputs["mul"][0] == 2.0
    assert inputs["concatenate"][1] is part is outputs["getitem"]
    assert settings["getitem"] == {"index": (slice(None), 1)}
    assert settings["sum"] == {"axis": 0, "keepdims": False}
    assert settings["tanh"] == {}
    assert outputs["sum"] is loss
    loss.backward()
    unobserved = mr.Tensor(np.ones((2, 3)), requires_grad=True)
    (2.0 * mr.concatenate([mr.where(mask, (unobserved @ w).tanh(), 0.0)[:, 1]] * 2)).sum(axis=0).backward()
    assert_array_equal(x.grad, unobserved.grad)


def test_outside_of_it_nothing_is_observed_and_another_takes_its_place_for_a_while():
    x = mr.Tensor(np.ones(3), requires_grad=True)
    (outer, first), (inner, second) = watch(), watch()
    with observing(first):
        x.exp()
        assert MODE.get() == RECORD | OBSERVE
        with observing(second):
            x.tanh()
        x.sqrt()
    x.tanh()
    assert [name for name, *_ in outer] == ["exp", "sqrt"]
    assert [name for name, *_ in inner] == ["tanh"]
    with pytest.raises(KeyError), observing(first):
        raise KeyError
    assert OBSERVER.get() is None


def test_observing_goes_with_the_other_modes():
    x = mr.Tensor(np.ones(3), requires_grad=True)
    seen, callback = watch()
    with observing(callback), mr.no_grad():
        y = mr.tanh(x)
    with mr.detect_anomaly(), observing(callback):
        z = mr.tanh(x)
        with pytest.raises(mr.AnomalyError):
            mr.log(x * 0.0)
    assert [name for name, *_ in seen] == ["tanh", "tanh", "mul"]
    assert not y.requires_grad
    assert z.requires_grad
