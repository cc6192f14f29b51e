"""Every mistake is told as it: written as a learner would, in mutants.txt, and as the solutions make it themselves."""

import pathlib
import pickle

import numpy as np
import pytest
from learners import learned
from notes import noted

from minirnn.exercises import EXERCISES, MISTAKES, check, diagnosis, solutions
from minirnn.exercises.diagnosis import TOLERANCE, close, numbers, scale
from minirnn.exercises.inputs import cases
from minirnn.exercises.steps import Made
from minirnn.exercises.texts import described

SEED = 5
KEPT = {}  # by exercise, mistakes made, and arguments


@pytest.fixture
def kept_numbers(monkeypatch):
    """With the inputs of one seed, the numbers of a known mistake are found once for all checks."""

    def once(name, arguments, made):
        if not made.names:
            return numbers(name, arguments, made)  # which notes what it was asked
        key = name, made.names, pickle.dumps(arguments)
        if key not in KEPT:
            try:
                KEPT[key] = numbers(name, arguments, made)
            except (ValueError, IndexError, np.linalg.LinAlgError) as error:
                KEPT[key] = error
        if isinstance(KEPT[key], Exception):
            raise KEPT[key].with_traceback(None)
        return KEPT[key]

    monkeypatch.setattr(diagnosis, "numbers", once)


def mutants():
    """Yield exercise, mistake, changes of the learner's text; a mistake's second mutant and the slow are exhaustive."""
    text = (pathlib.Path(__file__).parent / "mutants.txt").read_text(encoding="utf-8")
    seen = set()
    for block in text.strip().split("\n\n"):
        head, *lines = block.split("\n")
        name, mistake = head[1:].split("] ", 1)
        changes = [[part.replace("\\n", "\n") for part in f"{line} ".split(" => ")] for line in lines]
        marks = [pytest.mark.exhaustive] if mistake in seen else []
        seen.add(mistake)
        changes = [(old, new.removesuffix(" ")) for old, new in changes]
        yield pytest.param(name, mistake, changes, id=f"{name}: {mistake}", marks=marks)


@pytest.mark.parametrize(("name", "mistake", "changes"), [*mutants()])
@pytest.mark.usefixtures("kept_numbers")
def test_a_learners_mistake_is_told_as_it_and_as_nothing_else(name, mistake, changes):
    result = check(name, learned(name, *changes), rng=SEED)
    assert (result.passed, result.mistake) == (False, mistake), result
    known = [m for m in MISTAKES if m in mistake]
    assert all(described(m)[1] in result.message for m in known if m == mistake)
    assert "look at" in result.message or not known


QUICK = [
    *("neuron", "column", "step", "concat", "count", "unroll", "step_backward", "clip", "baseline", "jacobian"),
    *("lstm_step", "gru_step", "masked_forward", "tape"),
]


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.exhaustive) for n in EXERCISES]
)
@pytest.mark.usefixtures("kept_numbers")
def test_every_known_mistake_is_told_or_shares_its_numbers_with_those_told(name):
    calls, made = cases(EXERCISES[name], np.random.default_rng(SEED)), Made()
    right = [numbers(name, arguments, made) for arguments in calls]
    for mistake in made.asked:
        with noted(f"{name}: {mistake}"):
            try:
                wrong = [numbers(name, arguments, Made(mistake)) for arguments in calls]
            except ValueError:
                assert "not summed" in mistake or "wrong axis" in mistake  # shapes that cannot be added up
                continue
            offs = [
                np.abs(w - r).max() / scale(r) if w.shape == r.shape else np.inf
                for both in zip(wrong, right, strict=True)
                for w, r in zip(*both, strict=True)
            ]
            if all(close(w, r) for ws, rs in zip(wrong, right, strict=True) for w, r in zip(ws, rs, strict=True)):
                continue  # nothing that could be seen in this exercise
            assert np.nanmax(offs, initial=0.0) > 5 * TOLERANCE or np.isnan(offs).any()
            result = check(name, lambda *a, made=mistake: getattr(solutions, name)(Made(made), *a), rng=SEED)
            assert result.mistake is not None
            assert mistake.split("#")[0] in result.mistake


def test_every_mistake_is_described_and_asked_for_and_has_a_place_to_look_at():
    asked = {}
    for name, exercise in EXERCISES.items():
        made = Made()
        for arguments in cases(exercise, np.random.default_rng(0)):
            numbers(name, arguments, made)
        for mistake in made.asked:
            where, text = described(mistake.split("#")[0])
            assert exercise.line(where) in exercise.equation
            assert text
            asked.setdefault(mistake.split("#")[0], name)
    assert {m for m in MISTAKES if m not in asked and not any(a.startswith(m + " (") for a in asked)} == set()


UNKNOWN = [
    ("bptt", ("h_prev.T @ dz", "1.1 * h_prev.T @ dz"), ["dW_hh"], "at t = {T} of {T}, the last: dW_hh[0, 0]"),
    ("bptt", ("carried = dz @ W_hh.T", "carried = 0.5 * dz @ W_hh.T"), None, "1 step back from the last: dx["),
    ("unroll", ("hs.append(h)", "hs.append(h if len(hs) != 2 else h + 1)"), ["hs"], "at t = 3 of {T}: hs[2, 0, 0]"),
    ("lstm_step", ("f * c_prev", "f * f * c_prev"), ["h", "c"], "in h[0, 0]"),
]


@pytest.mark.parametrize(("name", "change", "wrong", "where"), UNKNOWN)
def test_what_fits_no_mistake_is_told_result_by_result_with_the_first_step(name, change, wrong, where):
    result = check(name, learned(name, change), rng=3)
    T = len(cases(EXERCISES[name], np.random.default_rng(3))[0][0])
    assert result.mistake is None
    assert result.message.startswith(f"{name}: not yet. These numbers fit no mistake that is known here.\n")
    assert where.format(T=T) in result.message
    assert [row.name for row in result.rows if not row.right] == (wrong or [row.name for row in result.rows])
    assert all(row.said.startswith("off by ") for row in result.rows if not row.right)
