"""Mini-batches of arrays: every row once an epoch, whatever the layout, and where they are can be put back."""

import copy
import pickle
import re

import numpy as np
import pytest
from error_texts import raises
from pairwise import pairwise

from minirnn.data import batches

T, N, D, P = 5, 7, 3, 2


def rows(batch, batch_first, every_step):
    """Return what belongs to each row, as one tuple of numbers each."""
    x, y, *lengths = batch
    x = x if batch_first else x.swapaxes(0, 1)
    y = y if batch_first or not every_step else y.swapaxes(0, 1)
    ends = lengths[0] if lengths else [x.shape[1]] * len(x)
    return [(*a[:end].ravel(), *(b[:end] if every_step else b).ravel()) for a, b, end in zip(x, y, ends, strict=True)]


POINTS = pairwise(
    {
        "batch_first": [False, True],
        "target": ["ids at every step", "at every step", "class", "numbers"],
        "ragged": [False, True],
        "shuffle": [False, True],
        "batch": [1, 3, 7, 20],
    }
)


@pytest.mark.parametrize("point", POINTS)
def test_each_epoch_has_every_row_once(point):
    rng = np.random.default_rng(0)
    every_step = "every step" in point["target"]
    shape = {"ids at every step": (N, T), "at every step": (N, T, P), "class": (N,), "numbers": (N, P)}[point["target"]]
    x, y = rng.normal(size=(N, T, D)), rng.normal(size=shape)
    lengths = rng.integers(1, T, size=N) if point["ragged"] else None
    if not point["batch_first"]:
        x, y = x.swapaxes(0, 1), y.swapaxes(0, 1) if every_step else y
    settings = {"batch": point["batch"], "shuffle": point["shuffle"], "batch_first": point["batch_first"]}
    made = batches(x, y, lengths, epochs=2, rng=1, **settings)
    given = list(made)
    assert len(given) == 2 * made.per_epoch == 2 * -(-N // point["batch"])
    sizes = [batch[0].shape[0 if point["batch_first"] else 1] for batch in given[: made.per_epoch]]
    assert sizes == [point["batch"]] * (N // point["batch"]) + [N % point["batch"]] * (N % point["batch"] > 0)
    whole = rows((x, y) if lengths is None else (x, y, lengths), point["batch_first"], every_step)
    epochs = [
        [row for batch in part for row in rows(batch, point["batch_first"], every_step)]
        for part in (given[: made.per_epoch], given[made.per_epoch :])
    ]
    for epoch in epochs:
        assert sorted(epoch) == sorted(whole)
        assert (epoch == whole) is not point["shuffle"]
    assert (epochs[0] == epochs[1]) is not point["shuffle"]
    if lengths is not None:
        assert all(b[0].shape[1 if point["batch_first"] else 0] == b[2].max() for b in given)


@pytest.mark.parametrize("shuffle", [False, True])
def test_it_goes_on_to_the_same_bits_from_where_another_was(shuffle):
    x, y = np.random.default_rng(0).normal(size=(T, N, D)), np.arange(N)
    made = batches(x, y, batch=3, shuffle=shuffle, rng=5)
    for at in range(8):
        state = pickle.loads(pickle.dumps(made.state_dict()))
        other = batches(x, y, batch=3, shuffle=shuffle, rng=6)
        other.load_state_dict(state)
        copied = copy.deepcopy(made)
        expected = [b[1].tolist() for _, b in zip(range(9), copied, strict=False)]
        assert [next(other)[1].tolist() for _ in range(9)] == expected, at
        next(made)


def test_a_state_of_other_batches_is_refused():
    made = batches(np.zeros((T, N, D)), np.zeros(N), batch=3, rng=5)
    for change in ({"at": N + 1}, {"before": None}):
        with pytest.raises(ValueError, match=rf"^Batches.load_state_dict: state must be that of batches of {N} rows"):
            made.load_state_dict(made.state_dict() | change)


def test_without_shuffling_they_are_views_and_with_it_copies():
    x, y = np.zeros((T, N, D)), np.zeros(N)
    assert np.shares_memory(next(batches(x, y, batch=2, shuffle=False))[0], x)
    assert not np.shares_memory(next(batches(x, y, batch=2, rng=0))[0], x)


square = np.zeros((4, 4, 2))
REFUSED = [
    ((square, np.zeros((4, 4))), {},
     "y of shape (4, 4) may be a target at every step or one for each row, since T = N = 4: "
     'say readout="all" or readout="last"'),
    ((np.zeros((5, 4, 2)), np.zeros((4, 5))), {"readout": "all"},
     "y must have shape (5, 4) or (5, 4, 'P'), a target at every step, or (4,) or (4, 'P'), one for each row, got "
     "(4, 5): x is read as (T, N, …); did you swap time and rows in y?"),
    ((np.zeros((5, 4, 2)), np.zeros(5)), {},
     "y must have shape (5, 4) or (5, 4, 'P'), a target at every step, or (4,) or "
     "(4, 'P'), one for each row, got (5,): x is read as (T, N, …)"),
    ((np.zeros((5, 4, 2)), [0, 1, np.nan, 0]), {},
     "y must hold no NaN, got one at [2]: leave such rows out, or fill them in"),
    ((np.zeros((5, 0, 2)), np.zeros(0)), {}, "x must have shape (T, N, …) and not be empty, got (5, 0, 2)"),
    ((np.zeros((5, 4, 2)), np.zeros(4), [1, 2]), {}, "lengths must have shape (N=4,), one for each row, got (2,)"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "settings", "message"), REFUSED)
def test_arrays_that_do_not_belong_together(arguments, settings, message):
    with pytest.raises(ValueError, match="^" + re.escape(f"batches: {message}")):
        batches(*arguments, batch=2, **settings)


def test_where_both_fit_it_can_be_said():
    x, y = np.random.default_rng(0).normal(size=(4, 4, 2)), np.arange(16).reshape(4, 4)
    by_row, by_step = (next(batches(x, y, batch=2, shuffle=False, readout=readout))[1] for readout in ("last", "all"))
    assert (by_row == y[:2]).all()
    assert (by_step == y[:, :2]).all()
    with raises(ValueError, "Batches.load_state_dict: state must be a state_dict of Batches, got {} (dict)"):
        batches(x, np.arange(4), batch=2).load_state_dict({})
