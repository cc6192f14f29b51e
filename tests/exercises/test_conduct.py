"""What a function does beside its numbers: one clear sentence each."""

import html.parser

import numpy as np
import pytest
from error_texts import raises
from learners import learned

from minirnn.exercises import EXERCISES, Result, check
from minirnn.exercises.checking import STATE, VIEWS, WRITES

NOT_YET = "{}: not yet. "


def broken(*arguments):
    return arguments[0] @ arguments[0]


def leaves(*arguments):
    raise SystemExit(3)


def one_short(*arguments):
    return learned("bptt")(*arguments)[:4]


SENTENCES = [
    ("bptt", lambda x: x, "<lambda> must take 6 arguments by position: x, h0, W_xh, W_hh, b, dhs."),
    (
        "bptt",
        lambda *a: None,
        "The function returned None: is its `return` missing? bptt returns dx, dh0, dW_xh, dW_hh, db.",
    ),
    ("bptt", one_short, "The function returned 4 results; bptt returns dx, dh0, dW_xh, dW_hh, db: 5."),
    ("clip", lambda *a: 3, "The function returned 3 (int), a single thing; clip returns g1, g2, g3, as a tuple."),
    ("step", lambda *a: "no", "h must be an array of real numbers, got 'no' (str): its dtype is <U2."),
    ("step", lambda *a: a[0] + 1j, "h must be an array of real numbers, got an array of shape"),
    ("step", leaves, "leaves raised SystemExit (3) in line 21: raise SystemExit(3)"),
    ("step", broken, "broken raised ValueError (matmul: "),
]


@pytest.mark.parametrize(("name", "function", "sentence"), SENTENCES)
def test_what_gives_no_numbers_is_told_in_a_sentence(name, function, sentence):
    result = check(name, function)
    assert (result.passed, result.mistake, result.rows) == (False, None, ())
    assert result.message.startswith(NOT_YET.format(name) + sentence)
    assert "\n" not in result.message


def test_the_line_that_failed_is_the_learners():
    assert check("step", broken).message.endswith("in line 17: return arguments[0] @ arguments[0]")


SHAPES = [
    ("step", ("x_t @ W_xh + h_prev @ W_hh + b)", "x_t @ W_xh + h_prev @ W_hh + b).T"), "h", ": is it transposed?"),
    ("step_backward", ("x_t.T @ dz", "dz.T @ x_t"), "dW_xh", ": is it transposed?"),
    ("bptt", ("dz.sum(axis=0)", "dz.sum(axis=0, keepdims=True)[0]"), None, ""),
    ("step_backward", ("dz.sum(axis=0)", "dz.sum(axis=0, keepdims=True)"), "db", ""),
    ("unroll", ("np.array(hs)", "np.array(hs).transpose(1, 0, 2)"), "hs", ""),
]


@pytest.mark.parametrize(("name", "change", "result", "said"), SHAPES)
def test_a_wrong_shape_is_told_with_the_right_one(name, change, result, said):
    found = check(name, learned(name, change))
    assert found.passed == (result is None)
    wrong = [row for row in found.rows if not row.right]
    assert [row.name for row in wrong] == ([result] if result else [])
    for row in wrong:
        assert row.said.startswith("has shape (")
        assert row.said.endswith(said)
        assert f"{result} {row.said}." in found.message


def test_nan_is_told_as_such():
    found = check("step", lambda *a: learned("step")(*a) * np.array(np.nan))
    assert found.rows[0].said.endswith("entries are NaN or infinite")
    assert "is nan; right is " in found.message


def keeps_state(x_t, h_prev, W_xh, W_hh, b, seen=[]):  # noqa: B006
    seen.append(1)
    return np.tanh(x_t @ W_xh + h_prev @ W_hh + b) + len(seen)


BUFFER = {}


def reuses_a_buffer(x_t, h_prev, W_xh, W_hh, b):
    out = BUFFER.setdefault(h_prev.shape, np.empty_like(h_prev))
    out[...] = 7.0 if out[0, 0] == 99.0 else np.tanh(x_t @ W_xh + h_prev @ W_hh + b)
    return out


def writes(*a):
    a[1][0, 0] += 1e-9
    return learned("step")(*a)


def counts_calls(x, *a, calls=[]):  # noqa: B006
    calls.append(1)
    return learned("step")(x, *a) + (len(calls) % 3 == 0)


CONDUCT = [
    ("step", writes, WRITES, "h_prev is not what it was before the call; work on h_prev.copy()"),
    (
        "bptt",
        learned("bptt", ("dh = dhs[t] + carried", "dh = dhs[t]; dh += carried")),
        WRITES,
        "dhs is not what it was",
    ),
    ("step", counts_calls, STATE, "the same arguments gave other numbers at the third call than at the first"),
    ("lstm_step", lambda *a: (lambda h, c: (h, np.add(c, 0, out=a[2])))(*learned("lstm_step")(*a)), WRITES, "c_prev"),
    (
        "bptt_final",
        learned("bptt_final", ("return dx, dh0", "dhs[:, 0] = 0; d_final[...] = dh0; return dx, d_final")),
        f"{WRITES} and {VIEWS}",
        "dh0 is d_final's own memory; return a copy",
    ),
]


@pytest.mark.parametrize(("name", "function", "mistake", "text"), CONDUCT, ids=range(len(CONDUCT)))
def test_right_numbers_are_not_enough(name, function, mistake, text):
    found = check(name, function)
    assert (found.passed, found.mistake) == (False, mistake if "lstm" not in name else f"{WRITES} and {VIEWS}")
    assert found.message.startswith(f"{name}: not yet. The numbers are right, but it ")
    assert text in found.message


def test_what_was_returned_may_not_be_written_over_later():
    BUFFER.clear()
    found = check("step", lambda *a: (BUFFER.clear(), reuses_a_buffer(*a))[1])
    assert found.passed

    def shared(*a):
        out = BUFFER.setdefault(0, np.empty(100))[: a[1].size].reshape(a[1].shape)
        out[...] = learned("step")(*a)
        return out

    kept = check("step", shared)
    assert (kept.passed, kept.mistake) == (False, STATE)
    state = check("step", keeps_state)
    assert state.mistake == STATE
    assert "Besides, it keeps state between calls" in state.message


def test_conduct_is_told_beside_a_mistake():
    found = check("bptt", learned("bptt", ("dz.sum(axis=0)", "dz.mean(axis=0); dhs[t] = 0")))
    assert found.mistake == f"bias averaged over the rows and {WRITES}"


def test_names_and_functions_are_checked():
    names = ", ".join(map(repr, EXERCISES))
    with raises(ValueError, f"check: name must be one of {names}, got 'bppt'"):
        check("bppt", len)
    with raises(TypeError, "check: function must be a function, got 3 (int): pass it without calling it"):
        check("bptt", 3)


def test_a_result_shows_itself():
    passed = check("step", learned("step"))
    failed = check("bptt", learned("bptt", ("dz.sum(axis=0)", "dz.mean(axis=0)")))
    assert str(passed) == repr(passed) == "step: passed. Right: h.\n  ok h  (N, H)"
    assert isinstance(failed, Result)
    lines = str(failed).split("\n")
    assert lines[0] == "bptt: not yet."
    assert lines[1].startswith("Mistake: bias averaged over the rows: the rows' gradients add up")
    assert lines[2] == "    look at   db  = Σ_t (the sum of the rows of dz_t)"
    assert lines[3].startswith("It shows first at t = ")
    assert lines[4:6] == ["  ok dx     (T, N, D)", "  ok dh0    (N, H)"]
    assert lines[8].startswith("  ✗  db     (H,)       off by 0.")
    page = failed._repr_html_()
    assert page.count("<tr") == 5
    assert page.count("#fbdcd9") == 1
    html.parser.HTMLParser().feed(page)
    assert "<script" not in check("step", lambda *a: "<script>")._repr_html_()


def test_inputs_are_fresh_unless_asked_and_differ_in_all_sizes():
    drawn = []

    def step(*a):
        drawn.append([x.copy() for x in a])
        return learned("step")(*a)

    for rng in (None, None, 5, 5):
        check("step", step, rng=rng)
    first = [drawn[3 * k] for k in range(4)]
    assert not np.array_equal(first[0][1], first[1][1])
    assert all(map(np.array_equal, first[2], first[3]))
    for x_t, h_prev, *_ in drawn:
        assert len({*x_t.shape, *h_prev.shape}) == 3
        assert not np.isin(np.abs([*x_t.ravel(), *h_prev.ravel()]), (0.0, 1.0)).any()
