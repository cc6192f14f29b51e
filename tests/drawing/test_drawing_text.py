import pytest

from minirnn.drawing.canvas import Piece, fitted, maths, parameter, plain, width


def test_subscripts_and_parameters():
    assert maths("h_{t−1} W_{hh}") == [
        Piece("h"),
        Piece("t−1", subscript=True),
        Piece(" "),
        Piece("W", weight=True),
        Piece("hh", subscript=True, weight=True),
    ]
    assert maths("tanh(2)") == [Piece("tanh(2)")]
    assert parameter("W_xh", (3, 5))[-1] == Piece(" (3, 5)")
    assert parameter("weight") == [Piece("weight", weight=True)]


def test_a_subscript_is_narrower_and_a_wide_letter_wider():
    assert width(maths("h_{ab}")) < width(plain("hab"))
    assert width(plain("i")) < width(plain("n")) < width(plain("W")) < width(plain("状"))


@pytest.mark.parametrize("room", [0, 5, 40, 88, 1000])
def test_what_is_fitted_fits(room):
    text = fitted("AVeryLongNameOfACell", room)
    assert text == "…" or width(plain(text)) <= room
    assert (text == "AVeryLongNameOfACell") == (room == 1000)
