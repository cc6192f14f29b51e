"""Windows of a series, ragged rows joined and parted, parts without anything in common, units."""

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn.data import pad, split, standardize, unpad, windows

SERIES = np.random.default_rng(0).normal(size=(60, 2))


@pytest.mark.parametrize(("horizon", "stride"), [(1, 1), (3, 2), (1, 7), (5, 4)])
def test_a_window_and_its_targets_are_where_the_docstring_says(horizon, stride):
    x, y = windows(SERIES, 6, horizon=horizon, stride=stride)
    N = (60 - 6 - horizon) // stride + 1
    assert x.shape == y.shape == (6, N, 2)
    for n in range(N):
        assert (x[:, n] == SERIES[n * stride : n * stride + 6]).all()
        assert (y[:, n] == SERIES[n * stride + horizon :][:6]).all()
    assert np.shares_memory(x, SERIES)
    assert not x.flags.writeable
    rows, targets = windows(SERIES, 6, horizon=horizon, stride=stride, batch_first=True)
    assert (rows == x.swapaxes(0, 1)).all()
    assert (targets == y.swapaxes(0, 1)).all()
    same, last = windows(SERIES, 6, horizon=horizon, stride=stride, readout="last")
    assert (same == x).all()
    assert (last == y[-1]).all()


def test_a_series_of_one_axis_has_one_feature():
    x, y = windows(np.arange(5, dtype=np.float32), 4)
    assert (x.shape, y.shape, x.dtype) == ((4, 1, 1), (4, 1, 1), np.float32)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("inner", [(), (3,), (2, 3)])
def test_unpad_undoes_pad(batch_first, inner):
    rng = np.random.default_rng(1)
    rows = [rng.normal(size=(T, *inner)) for T in (3, 1, 5, 2)]
    x, lengths = pad(rows, batch_first=batch_first)
    assert x.shape == ((4, 5, *inner) if batch_first else (5, 4, *inner))
    assert lengths.tolist() == [3, 1, 5, 2]
    steps = x.swapaxes(0, 1) if batch_first else x
    assert all((steps[T:, n] == 0).all() for n, T in enumerate(lengths))
    back = unpad(x, lengths, batch_first=batch_first)
    assert all(np.array_equal(a, b) for a, b in zip(back, rows, strict=True))


def test_ids_in_lists_stay_whole():
    assert pad([[1, 2], [3]])[0].dtype.kind == "i"
    assert pad([[1.0, 2], [3]])[0].dtype == np.float32


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("readout", ["all", "last"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_parts_by_time_have_no_value_in_common_and_waste_none(copied, readout, batch_first):
    series = np.arange(400.0)[:, None] + [0, 0.5]  # no value stands twice
    for horizon in (1, 2, 7):
        for stride in (1, 2, 5, 6, 9):
            x, y = windows(series, 6, horizon=horizon, stride=stride, readout=readout, batch_first=batch_first)
            if copied:
                x, y = x.copy(), y.copy()
            train, test = split(x, y, fractions=(0.6, 0.4), by="time", batch_first=batch_first)
            latest, first = max(part.max() for part in train), min(part.min() for part in test)
            assert latest < first <= latest + stride + 1, (horizon, stride)


def test_parts_by_time_of_labels_ask_how_far_these_reach():
    x, _ = windows(SERIES, 4)
    labels = np.random.default_rng(2).integers(3, size=x.shape[1])
    with pytest.raises(ValueError, match=r"^split: horizon must be given for rows that overlap and targets that are"):
        split(x, labels, by="time")
    train, test = split(x, labels, by="time", horizon=0)
    assert (train[0].shape[1], test[0].shape[1]) == (45, 8)  # of 56: three windows overlap with the last to train on


def test_one_row_is_cut_in_its_steps_and_a_series_as_it_is():
    x = SERIES[:, None]
    (a, b), (c, d) = split(x, x, by="time")
    assert (len(a), len(b), len(c), len(d)) == (48, 48, 12, 12)
    train, test = split(SERIES, by="time", fractions=np.array([0.5, 0.25]))
    assert (train == SERIES[:30]).all()
    assert (test == SERIES[30:45]).all()


def test_parts_by_row_share_no_row_and_each_class_is_in_each():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(5, 40, 2)), np.repeat([0, 1, 2], [30, 6, 4])
    lengths = rng.integers(1, 6, size=40)
    parts = split(x, y, lengths, fractions=(0.5, 0.25, 0.25), rng=0)
    rows = [tuple(row) for part in parts for row in part[0][0]]
    assert sorted(rows) == sorted(tuple(row) for row in x[0])
    assert [np.bincount(part[1]).tolist() for part in parts] == [[15, 3, 2], [8, 1, 1], [7, 2, 1]]
    for part in parts:
        assert part[0].shape[0] == part[2].max()
    again = split(x, y, lengths, fractions=(0.5, 0.25, 0.25), rng=0)
    assert all((a == b).all() for p, q in zip(parts, again, strict=True) for a, b in zip(p, q, strict=True))


def test_what_split_refuses():
    x, y = np.random.default_rng(4).normal(size=(5, 10, 2)), np.arange(10.0)
    with raises(
        ValueError,
        'split: by="row" must have rows with nothing in common, got windows that overlap, which would stand in two '
        'parts: try by="time", or part the series before cutting windows',
    ):
        split(*windows(SERIES, 6))
    for kind, message, arguments in (
        (
            ValueError,
            "each part must have some of the rows, got none for part 1, 0.01 of 10 rows",
            {"fractions": (0.9, 0.01)},
        ),
        (ValueError, "fractions must lie between 0 and 1 and add up to 1 at most", {"fractions": (80, 20)}),
        (TypeError, "fractions must be numbers, one for each part, got 0.8 ", {"fractions": 0.8}),
        (ValueError, "by must be one of 'row', 'time', got 'rows'", {"by": "rows"}),
        (ValueError, "each class must have a row for each of the 2 parts, got 1 of class 7", {"y": [0] * 9 + [7]}),
        (ValueError, 'a series without y is parted by="time" only', {"y": None}),
    ):
        with pytest.raises(kind, match=f"^split: {message}"):
            split(x, **{"y": y, **arguments})


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
def test_units_are_those_of_the_steps_that_count_and_can_be_undone(batch_first):
    rng = np.random.default_rng(5)
    x = rng.normal(3, 2, size=(7, 4, 3))
    lengths = np.array([2, 7, 1, 4])
    given = x.swapaxes(0, 1) if batch_first else x
    units = standardize(given, lengths, batch_first=batch_first)
    counting = np.concatenate([x[:end, n] for n, end in enumerate(lengths)])
    np.testing.assert_allclose(units.mean, counting.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(units.std, counting.std(axis=0), rtol=1e-14)
    np.testing.assert_allclose(units.inverse(units(x)), x, rtol=1e-13)
    assert units(x.astype(np.float32)).dtype == np.float32


def test_a_constant_feature_keeps_its_unit():
    units = standardize(np.full((9, 2), 0.1) * [1, 0])
    assert units.std.tolist() == [1, 1]
    np.testing.assert_allclose(units(np.zeros((1, 2))), [[-0.1, 0]], rtol=1e-15)


REFUSED = [
    (windows, ([1, 2, 3], 3),
     "windows: series must have at least length + horizon = 4 steps, got 3: try a shorter length"),
    (windows, (np.zeros((3, 3, 3)), 2),
     "windows: series must have shape (S,) or (S, D), got (3, 3, 3): try series[:, n], a row"),
    (windows, ([1, np.nan], 1),
     "windows: series must hold finite numbers, got nan at [1]: leave such rows out, or fill them in"),
    (pad, ([[1], []],), "pad: sequences[1] must have shape (T ≥ 1, …), got (0,): leave empty rows out"),
    (pad, ([],), "pad: sequences must hold at least one row, got none"),
    (pad, ([[1], [[1, 2]]],), "pad: sequences must differ in their first axis alone, got (1,) and, at 1, (1, 2)"),
    (unpad, ([1, 2], [1]), "unpad: x must have shape (T, N, …), got (2,)"),
    (standardize, ([],), "standardize: train must not be empty, got shape (0,)"),
    (standardize, (3.5,), "standardize: train must have shape (S,) or (…, D), got one number, 3.5"),
    (standardize, ([[1, 2]], [1]), "standardize: train must have shape (T, N, D) with lengths, got (1, 2)"),
    (standardize([[1, 2]]), ([1, 2, 3],),
     "Standardizer: values must have shape (…, D=2), as those it was fitted on, got (3,)"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "message"), REFUSED)
def test_what_is_refused(function, arguments, message):
    with raises(ValueError, message):
        function(*arguments)


def test_a_flag_is_no_word():
    for name, call in (
        ("windows", lambda: windows([1, 2, 3], 1, batch_first="no")),
        ("pad", lambda: pad([[1]], batch_first="no")),
    ):
        with raises(TypeError, f"{name}: batch_first must be True or False, got 'no' (str)"):
            call()


def test_what_requires_a_gradient_does_not_become_an_array():
    t = mr.Parameter(np.arange(8.0).reshape(4, 2)) * 2
    units = standardize(t.numpy())
    for name, call in (
        ("windows: series", lambda: windows(t, 2)),
        ("pad: sequences[1]", lambda: pad([t.numpy(), t])),
        ("standardize: train", lambda: standardize(t)),
        ("Standardizer: values", lambda: units(t)),
        ("Standardizer.inverse: values", lambda: units.inverse(t)),
    ):
        with raises(
            TypeError,
            f"{name} must be constants, got a Tensor of shape (4, 2) that requires a gradient, which would end here: "
            "give its .detach(), or .numpy(), if none should flow",
        ):
            call()
    np.testing.assert_array_equal(units(t.detach()), units(t.numpy()))


def test_a_frame_serves_where_an_array_does():
    class Frame:
        columns = ("a", "b")

        def __array__(self, dtype=None, copy=None):
            return np.asarray(SERIES, dtype)

    assert (windows(Frame(), 3)[0] == windows(SERIES, 3)[0]).all()
    assert mr.data.standardize(Frame()).mean.shape == (2,)
