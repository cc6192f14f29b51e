import itertools
import re

import numpy as np
import pytest
from cases import assert_near
from error_texts import raises

from minirnn.tasks import TASKS, ReberTask
from minirnn.tasks.grammar import SYMBOLS

NAMES = ["reber", "embedded-reber"]

# The grammar once more, as a regular expression: B, then T S* X or P, and so on round the graph.
AT_2 = "T*V(?:PXT*V)*(?:V|PS)"  # from the state after B P to the E
INNER = f"B(?:TS*X(?:S|X{AT_2})|P{AT_2})E"
PATTERNS = {"reber": re.compile(INNER), "embedded-reber": re.compile(f"B(?:T{INNER}T|P{INNER}P)E")}


def strings_of(batch):
    _, y, lengths = batch
    return ["B" + "".join(SYMBOLS[i] for i in y[:L, n]) for n, L in enumerate(lengths)]


def may_follow(name, prefix):
    """The symbols that continue a prefix to some string, found by trying ways on; slow, and by the pattern alone."""
    rests = {"reber": COMPLETIONS, "embedded-reber": [r + o + "E" for r in COMPLETIONS for o in "TP"] + EARLY}[name]
    return {rest[0] for rest in rests if PATTERNS[name].fullmatch(prefix + rest)}


# From any state of the grammar one of these ends it, whatever symbol comes first.
COMPLETIONS = [
    *("E", "SE", "VE", "VVE", "PSE", "TVVE", "XSE", "XVVE", "SXSE", "BPVVE", "BTXSE"),
    *("TXSE", "PVVE", "VPSE", "XXVVE", "PXVVE", "SSE", "SXXVVE"),
]
EARLY = ["E", "TE", "PE", *(o + "BPVVE" + o + "E" for o in "TP")]


def test_the_pattern_knows_what_belongs_and_what_does_not():
    """The examples of a course page on the grammar."""
    for string in ("BTSSXXTVVE", "BPVVE", "BTXXVPSE", "BPVPXVPXVPXVVE", "BTSXXVPSE"):
        assert PATTERNS["reber"].fullmatch(string)
    for string in ("BTSSPXSE", "BPTVVB", "BTXXVVSE", "BPVSPSE", "BTSSSE"):
        assert not PATTERNS["reber"].fullmatch(string)
    assert PATTERNS["embedded-reber"].fullmatch("BTBPVVETE")
    assert not PATTERNS["embedded-reber"].fullmatch("BTBPVVEPE")


@pytest.mark.parametrize("name", NAMES)
def test_the_symbols_that_may_follow_are_all_and_no_others(name):
    task = TASKS[name]()
    batch = task.batch(60, rng=2)
    _, y, lengths = batch
    legal = task.legal(y, lengths)
    for n, string in enumerate(strings_of(batch)):
        for t in range(lengths[n]):
            marked = {SYMBOLS[i] for i in np.flatnonzero(legal[t, n])}
            assert marked == may_follow(name, string[: t + 1]), (string, t)
            assert 1 <= len(marked) <= 2
        assert legal[lengths[n] :, n].all()


@pytest.mark.parametrize("name", NAMES)
def test_x_is_the_string_without_its_end_and_y_without_its_start(name):
    x, y, lengths = TASKS[name]().batch(40, rng=1)
    assert len(x) == lengths.max()
    for n, L in enumerate(lengths):
        ids = x[:L, n].argmax(axis=-1)
        np.testing.assert_array_equal(x[:L, n].sum(axis=-1), np.ones(L))
        assert SYMBOLS[ids[0]] == "B"
        np.testing.assert_array_equal(ids[1:], y[: L - 1, n])
        assert SYMBOLS[y[L - 1, n]] == "E"
        assert not x[L:, n].any()
        assert not y[L:, n].any()


@pytest.mark.parametrize("name", NAMES)
def test_where_two_symbols_may_follow_each_does_half_the_time(name):
    task = TASKS[name]()
    _, y, lengths = task.batch(8000, rng=0)
    legal = task.legal(y, lengths)
    two = (legal.sum(axis=-1) == 2) & (np.arange(len(y))[:, None] < lengths)
    assert_near(legal.argmax(axis=-1)[two] == y[two], 1 / 2)
    strings = strings_of((None, y, lengths))
    if name == "reber":
        assert_near([s == "BPVVE" for s in strings], 1 / 8)
    else:
        assert_near([s[1] == "T" for s in strings], 1 / 2)
        assert all(s[1] == s[-2] for s in strings)


def test_the_baseline_of_reber_by_simulation():
    """The best of all predictors that look at the present symbol: it ranks two contexts' followers for each."""
    task = ReberTask()
    x, y, lengths = task.batch(1000, rng=0)
    followers = {
        "B": ["TP"],
        "T": ["SX", "TV"],
        "P": ["TV", "XS"],
        "S": ["SX", "E"],
        "X": ["XS", "TV"],
        "V": ["PV", "E"],
        "E": ["B"],
    }
    figures = []
    for choice in itertools.product(*(followers[symbol] for symbol in SYMBOLS)):
        ranks = np.array([[float(symbol in follow) for symbol in SYMBOLS] for follow in choice])
        figures.append(task.figure(ranks[x.argmax(axis=-1)], y, lengths))
    share = min(figures)
    assert share == pytest.approx(task.baseline, abs=4 * np.sqrt(7 / 64 / 1000))
    assert max(figures) == 1
    assert share == 1 - np.mean([s == "BTXSE" for s in strings_of((x, y, lengths))])


def test_the_baseline_of_embedded_reber_by_simulation():
    """Whatever ranks the followers by the present symbol: T (P) is followed by B alone once, and by E alone."""
    task = TASKS["embedded-reber"]()
    x, y, lengths = task.batch(500, rng=0)
    rng = np.random.default_rng(1)
    for _ in range(50):
        ranks = rng.random((7, 7))
        assert task.figure(ranks[x.argmax(axis=-1)], y, lengths) == 1 == task.baseline
    # even with the grammar known but for the outer letter, half of the strings are wrong
    perfect = task.legal(y, lengths).astype(float)
    at = lengths - 2, np.arange(500)
    perfect[at] = [float(symbol == "T") for symbol in SYMBOLS]
    assert task.figure(perfect, y, lengths) == np.mean([s[1] == "P" for s in strings_of((x, y, lengths))])


@pytest.mark.parametrize("name", NAMES)
def test_the_figure_counts_strings_with_a_fault_anywhere(name):
    task = TASKS[name]()
    _, y, lengths = task.batch(8, rng=3)
    scores = task.legal(y, lengths).astype(float)
    scores[np.arange(len(y))[:, None] >= lengths] = np.nan  # what stands there does not count
    assert task.figure(scores, y, lengths) == 0
    scores[1, 2] = 0.0  # as large as the others is not larger
    scores[0, 5] = np.nan
    assert task.figure(scores, y, lengths) == 2 / 8
    scores[0, 2] = 1 - scores[0, 2]  # a second fault in the same string
    assert task.figure(scores, y, lengths) == 2 / 8


def test_what_is_no_string_of_the_grammar_is_refused():
    task = ReberTask()
    with raises(
        ValueError,
        "ReberTask: y must be strings of the grammar, got 'B' at step 0 of row 1, where it may not stand: pass y and "
        "lengths as the task gave them",
    ):
        task.figure(np.zeros((1, 2, 7)), np.array([[1, 0]]))
