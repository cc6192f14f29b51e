import itertools
import math

import numpy as np
import pytest
from error_texts import raises

from minirnn import init

NAMES = ["glorot", "orthogonal", "identity", "normal", "zeros", "ones", "kaiming", "lecun"]


def generator(seed=0):
    return np.random.default_rng(seed)


# --- the initialisers -------------------------------------------------------------------------------------------------


def test_every_preset_gives_float64_of_its_shape_and_the_same_for_the_same_seed():
    assert list(init.PRESETS) == NAMES
    for name in NAMES:
        first, second = (init.get(name)((6, 6), generator(1)) for _ in range(2))
        assert isinstance(first, np.ndarray)
        assert first.shape == (6, 6)
        assert first.dtype == np.float64
        np.testing.assert_array_equal(first, second)
        for dtype in (np.float32, np.float64):
            W = init.initialise(name, (6, 6), generator(1), dtype, "w")
            assert W.dtype == dtype
            np.testing.assert_array_equal(W, first.astype(dtype))


def test_glorot_fills_its_interval_and_no_more():
    W = init.glorot_uniform((300, 200), generator())
    limit = math.sqrt(6 / 500)
    assert np.abs(W).max() < limit
    assert W.max() > 0.999 * limit
    assert W.min() < -0.999 * limit
    # 60,000 draws: the mean is within 4 standard errors, the variance within 4 of its own
    assert abs(W.mean()) < 4 * math.sqrt(2 / 500 / W.size)
    assert abs(W.var() * 500 / 2 - 1) < 4 * math.sqrt(0.8 / W.size)


@pytest.mark.parametrize(("make", "variance"), [(init.kaiming_normal, 2 / 300), (init.lecun_normal, 1 / 300)])
def test_kaiming_and_lecun_count_the_inputs(make, variance):
    W = make((300, 200), generator())
    assert abs(W.mean()) < 4 * (variance / W.size) ** 0.5
    assert abs(W.var() / variance - 1) < 4 * (2 / W.size) ** 0.5
    assert abs((W**4).mean() / variance**2 - 3) < 4 * (96 / W.size) ** 0.5  # a normal distribution's


def test_orthogonal_with_a_gain():
    W, plain = init.orthogonal(gain=1.5)((4, 3), generator()), init.orthogonal((4, 3), generator())
    np.testing.assert_allclose(W, 1.5 * plain, rtol=1e-15)
    assert repr(init.orthogonal(gain=2)) == "orthogonal(2.0)"
    with pytest.raises(ValueError, match=r"^orthogonal: gain must be a positive number, got 0: try 1.0$"):
        init.orthogonal(gain=0)


def test_orthogonal_has_orthogonal_columns_or_if_it_is_wider_rows():
    for shape in [(1, 1), (2, 2), (7, 7), (50, 50), (7, 3), (3, 7), (3, 12), (1, 5), (5, 1)]:
        W = init.orthogonal(shape, generator())
        assert W.shape == shape
        assert W.flags.c_contiguous
        gram = W.T @ W if shape[0] >= shape[1] else W @ W.T
        np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-14)


def test_orthogonal_is_uniform_over_the_group():
    """Over the Haar measure E tr W = 0 and E (tr W)² = 1 for every size above 1; QR's own signs give another mean."""
    rng = generator()
    draws = 4000
    traces = np.array([np.trace(init.orthogonal((4, 4), rng)) for _ in range(draws)])
    assert abs(traces.mean()) < 4 / math.sqrt(draws)
    assert np.mean(traces**2) == pytest.approx(1, abs=0.12)
    signs = np.array([np.linalg.det(init.orthogonal((3, 3), rng)) for _ in range(1000)])
    np.testing.assert_allclose(np.abs(signs), 1, atol=1e-12)
    assert abs(signs.mean()) < 4 / math.sqrt(1000)  # reflections as often as rotations
    raw = np.array([np.trace(np.linalg.qr(rng.standard_normal((4, 4)))[0]) for _ in range(draws)])
    assert abs(raw.mean()) > 0.5  # what the sign fix is for, and what this test would catch


@pytest.mark.parametrize(("make", "size"), [(init.orthogonal, 1.0), (init.spectral(0.9), 0.9)])
def test_one_by_one_takes_both_signs(make, size):
    rng = generator()
    assert {float(make((1, 1), rng)[0, 0]) for _ in range(50)} == {-size, size}


def test_identity_and_spectral_refuse_what_is_not_square():
    np.testing.assert_array_equal(init.identity((4, 4), generator()), np.eye(4))
    for name, make in (("identity", init.identity), ("spectral", init.spectral(0.9))):
        hint = 'try "orthogonal", or blocks= for gates'
        with raises(ValueError, f"{name}: shape must be square, (H, H), got (4, 8): {hint}"):
            make((4, 8), generator())


@pytest.mark.parametrize(
    "name", ["glorot_uniform", "kaiming_normal", "lecun_normal", "orthogonal", "identity", "spectral"]
)
def test_initialisers_of_matrices_refuse_other_shapes(name):
    make = init.spectral(0.9) if name == "spectral" else getattr(init, name)
    for shape in [(4,), (2, 3, 4), (0, 4), (0, 0)]:
        expected = f"{name}: shape must be (inputs ≥ 1, outputs ≥ 1), got {shape}: for a bias try zeros"
        with raises(ValueError, expected):
            make(shape, generator())


def test_zeros_ones_and_constant_fill_any_shape():
    for shape in [(3,), (2, 3), (2, 3, 4)]:
        np.testing.assert_array_equal(init.zeros(shape, generator()), np.zeros(shape))
        np.testing.assert_array_equal(init.ones(shape, generator()), np.ones(shape))
        np.testing.assert_array_equal(init.constant(-0.5)(shape, generator()), np.full(shape, -0.5))
    assert init.constant(1)((2,), generator()).dtype == np.float64


def test_normal_has_its_mean_and_standard_deviation():
    W = init.normal(0.1, mean=2.0)((200, 300), generator())
    assert W.mean() == pytest.approx(2.0, abs=4 * 0.1 / math.sqrt(W.size))
    assert W.std() == pytest.approx(0.1, rel=4 / math.sqrt(2 * W.size))


def test_the_name_normal_has_standard_deviation_one_thousandth():
    W = np.asarray(init.get("normal")((200, 300), generator()))
    assert W.std() == pytest.approx(0.001, rel=0.02)
    assert abs(W.mean()) < 4 * 0.001 / math.sqrt(W.size)


def test_uniform_fills_its_interval():
    W = init.uniform(-0.2, 0.6)((200, 300), generator())
    assert -0.2 <= W.min() < -0.199
    assert 0.599 < W.max() < 0.6
    assert W.mean() == pytest.approx(0.2, abs=4 * 0.8 / math.sqrt(12 * W.size))


def radius_of(W):
    return np.abs(np.linalg.eigvals(W)).max()


def test_spectral_has_its_radius():
    for size, radius, seed in itertools.product([1, 2, 3, 8, 50], [1e-3, 0.5, 0.9, 1, 30.0], range(3)):
        W = init.spectral(radius)((size, size), generator(seed))  # eigenvalues real and in pairs
        assert W.shape == (size, size)
        assert W.dtype == np.float64
        assert radius_of(W) == pytest.approx(radius, rel=1e-12)


def test_spectral_scales_a_normal_draw():
    """All entries by one factor; a matrix scaled by another norm would fail `test_spectral_has_its_radius`."""
    W, A = init.spectral(0.7)((6, 6), generator(4)), generator(4).standard_normal((6, 6))
    np.testing.assert_allclose(W / A, np.full((6, 6), 0.7 / radius_of(A)), rtol=1e-12)
    np.testing.assert_allclose(init.spectral(1.4)((6, 6), generator(4)), 2 * W, rtol=1e-14)
    assert np.linalg.norm(W, 2) > 1.05 * 0.7  # the largest singular value is another number


def test_spectral_of_radius_zero_is_zero_and_draws_as_any_other():
    rng, other = generator(2), generator(2)
    W = init.spectral(0)((4, 4), rng)
    np.testing.assert_array_equal(W, np.zeros((4, 4)))
    assert not np.signbit(W).any()
    init.spectral(0.5)((4, 4), other)
    assert rng.random() == other.random()


def test_spectral_does_not_divide_by_the_radius_of_a_nilpotent_draw():
    class Nilpotent:
        def standard_normal(self, shape):
            return np.triu(np.ones(shape), 1)

    message = "spectral: rng must draw a matrix with an eigenvalue other than 0: try a numpy Generator"
    with raises(ValueError, message):
        init.spectral(0.9)((3, 3), Nilpotent())


NOT_NEGATIVE, FINITE = "must be a number ≥ 0", "must be a finite number"
SPECTRAL, NORMAL, UNIFORM = "spectral(0.9)", "normal(0.001)", "uniform(-0.1, 0.1)"
FAULTS = [
    (init.spectral, (-0.9,), ValueError, f"spectral: radius {NOT_NEGATIVE}, got -0.9: {SPECTRAL} makes"),
    (init.spectral, (True,), TypeError, f"spectral: radius {NOT_NEGATIVE}, got True (bool): {SPECTRAL} makes"),
    (init.spectral, ((4, 4),), TypeError, f"spectral: radius {NOT_NEGATIVE}, got (4, 4) (tuple): {SPECTRAL} makes"),
    (init.normal, (-0.1,), ValueError, f"normal: std {NOT_NEGATIVE}, got -0.1: {NORMAL} makes"),
    (init.normal, (0.1, True), TypeError, f"normal: mean {FINITE}, got True (bool): {NORMAL} makes"),
    (init.uniform, (-0.1, math.inf), ValueError, f"uniform: high {FINITE}, got inf: {UNIFORM} makes"),
]


def test_factories_check_their_settings():
    for make, settings, kind, message in FAULTS:
        with raises(kind, f"{message} an initialiser"):
            make(*settings)
    with raises(ValueError, "uniform: low must be below high, got low=0.1 and high=-0.1: try uniform(-0.1, 0.1)"):
        init.uniform(0.1, -0.1)
    hint = "try constant(0.1); for an array try lambda shape, rng: array"
    with raises(TypeError, f"constant: value must be a finite number, got '0' (str): {hint}"):
        init.constant("0")


# --- get and initialise -----------------------------------------------------------------------------------------------

NAMED = ", ".join(map(repr, NAMES))
EXPECTED_INITIALISER = f"Layer: w must be one of {NAMED} or a callable taking (shape, rng)"


def test_a_callable_passes_through():
    def mine(shape, rng):
        return rng.random(shape)

    assert init.get(mine) is mine
    W = init.initialise(mine, (2, 3), generator(5), np.float64, "w")
    np.testing.assert_array_equal(W, generator(5).random((2, 3)))


def test_what_is_neither_name_nor_callable_is_refused():
    hint = "for a number try constant(number), for an array try lambda shape, rng: array"
    array = "an array of shape (2, 2) and dtype float64"
    for value, got in ((0.1, "0.1 (float)"), (None, "None (NoneType)"), (np.ones((2, 2)), array)):
        with raises(TypeError, f"{EXPECTED_INITIALISER}, got {got}: {hint}"):
            init.initialise(value, (2, 2), generator(), np.float32, "Layer: w")


def test_a_factory_passed_without_its_settings_says_what_is_missing():
    with raises(TypeError, "normal: std must be a number ≥ 0, got (2, 3) (tuple): normal(0.001) makes an initialiser"):
        init.initialise(init.normal, (2, 3), generator(), np.float32, "w")


def test_initialise_takes_lists_and_integers():
    W = init.initialise(lambda shape, rng: [[1, 2], [3, 4]], (2, 2), generator(), np.float32, "w")
    np.testing.assert_array_equal(W, np.array([[1, 2], [3, 4]], np.float32))


def test_initialise_never_hands_out_the_callers_array():
    mine = np.ones((2, 2))
    W = init.initialise(lambda shape, rng: mine, (2, 2), generator(), np.float64, "w")
    W[...] = 7
    assert (mine == 1).all()


def test_what_an_initialiser_gives_is_checked():
    numbers = ": what it gives must be an array of numbers"
    real, finite = " must give real numbers of shape (2, 3), got an array of", " must give values finite in float32"
    ask = "use the shape it is called with; a layer with gates asks for one gate at a time"
    convert = "try np.asarray(data, dtype=float)"
    for given, kind, message in (
        (np.zeros((3, 2)), ValueError, f"{real} shape (3, 2) and dtype float64: {ask}"),
        (0.5, ValueError, f"{real} shape () and dtype float64: {ask}"),
        (np.ones((2, 3), bool), ValueError, f"{real} shape (2, 3) and dtype bool: {ask}"),
        (np.full((2, 3), "a"), TypeError, f"{numbers} (bool, int or float), got ndarray of dtype <U1: {convert}"),
        (np.ones(3, complex), TypeError, f"{numbers} (bool, int or float), got ndarray of dtype complex128: {convert}"),
        (None, TypeError, f"{numbers} (bool, int or float), got NoneType of dtype object: {convert}"),
        (
            [[1, 2], [3]],
            TypeError,
            f"{numbers}, got a ragged list: its parts differ in length, so pad them to one length",
        ),
        (np.diag([0, math.nan, 0])[:2], ValueError, f"{finite}, got nan at index (1, 1): try a smaller scale"),
        (np.full((2, 3), 1e300), ValueError, f"{finite}, got 1e+300 at index (0, 0): try a smaller scale"),
    ):
        with raises(kind, f"Layer: w{message}"):
            init.initialise(lambda shape, rng, given=given: given, (2, 3), generator(), np.float32, "Layer: w")


def test_blocks_must_divide_the_last_axis():
    with raises(ValueError, "Layer: w: shape must have a last axis that is a multiple of blocks=4, got (3, 10)"):
        init.initialise("zeros", (3, 10), generator(), np.float32, "Layer: w", blocks=4)
