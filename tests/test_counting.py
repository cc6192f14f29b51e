import itertools
import json
import math

import numpy as np
import pytest
from error_texts import raises

from minirnn import counting

CELLS = {
    "elman": counting.elman,
    "lstm": counting.lstm,
    "gru": counting.gru,
    "gru, reset before": lambda *sizes, bias=True: counting.gru(*sizes, bias=bias, reset_after=False),
}
BLOCKS = {"elman": 1, "lstm": 4, "gru": 3, "gru, reset before": 3}
SIZES = list(itertools.product([1, 3, 10], [1, 4, 20], [None, 1, 5]))  # m, n, p


def test_the_exam_of_note_000():
    count = counting.elman(10, 20, 5, bias=False)
    assert count.shapes_column == {"W_xh": (20, 10), "W_hh": (20, 20), "W_hy": (5, 20)}  # its three answers
    assert count.shapes == {"W_xh": (10, 20), "W_hh": (20, 20), "W_hy": (20, 5)}
    assert count.total == 700
    assert count.formula == "n·m + n·n + p·n"
    assert count.formula_numbers == "20·10 + 20·20 + 5·20"


def test_closed_forms():
    for (m, n, p), cell, bias in itertools.product(SIZES, CELLS, [True, False]):
        count = CELLS[cell](m, n, p, bias=bias)
        recurrent = BLOCKS[cell] * n * (m + n + bias) + (n if cell == "gru" and bias else 0)
        head = 0 if p is None else p * n + p * bias
        assert (count.recurrent, count.head, count.total) == (recurrent, head, recurrent + head)
        # the formula, with numbers and with symbols, is the count when it is worked out
        assert eval(count.formula_numbers.replace("·", "*")) == count.total
        assert eval(count.formula.replace("·", "*"), {"m": m, "n": n, "p": p}) == count.total
        for term in count.terms:
            assert term.shape_column == term.shape[::-1]
            assert math.prod(term.shape) == term.count == eval(term.numbers.replace("·", "*"))
        assert list(count.shapes) == list(count.shapes_column) == [term.name for term in count.terms]


def test_neither_the_length_nor_the_activation_is_asked_for():
    text = " ".join(counting.elman(1, 1).notes)
    assert "T" in text
    assert "φ" in text
    with pytest.raises(TypeError):
        counting.elman(1, 1, T=100)


def test_numpy_integers_are_sizes():
    count = counting.elman(np.int64(10), np.int32(20), np.uint8(5))
    assert count == counting.elman(10, 20, 5)
    assert type(count.m) is type(count.n) is type(count.p) is int
    json.dumps(count.to_dict())
    assert len({count, counting.elman(10, 20, 5), counting.elman(10, 20, 6)}) == 2


@pytest.mark.parametrize("cell", CELLS)
def test_to_dict(cell):
    count = CELLS[cell](3, 4, 2)
    data = count.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["total"] == count.total == sum(term["count"] for term in data["terms"])
    assert data["terms"][0] == {
        "name": "W_xh",
        "shape": list(count.shapes["W_xh"]),
        "shape_column": list(count.shapes_column["W_xh"]),
        "formula": count.terms[0].formula,
        "numbers": count.terms[0].numbers,
        "count": count.terms[0].count,
    }
    assert data["reconciliation"] == count.reconciliation()


# -- tables -----------------------------------------------------------------------------------------------------------


def test_table():
    assert counting.gru(3, 4, 2).table().splitlines() == [
        "name   shape (row convention)  shape (column convention)  formula        count",
        "-----  ----------------------  -------------------------  -------------  -----",
        "W_xh   (3, 12)                 (12, 3)                    3·n·m = 3·4·3     36",
        "W_hh   (4, 12)                 (12, 4)                    3·n·n = 3·4·4     48",
        "b_h    (12,)                   (12,)                      3·n = 3·4         12",
        "b_hn   (4,)                    (4,)                       n = 4              4",
        "W_hy   (4, 2)                  (2, 4)                     p·n = 2·4          8",
        "b_y    (2,)                    (2,)                       p = 2              2",
        "-----  ----------------------  -------------------------  -------------  -----",
        "total                                                                      110",
    ]


def test_render_table():
    rows = [("a", 1, None), ("long name", 1000, "x")]
    assert counting.render_table(rows, ("name", "n", "note")).splitlines() == [
        "name          n  note",
        "---------  ----  ----",
        "a             1  None",
        "long name  1000  x",
    ]
    assert counting.render_table([], ("name", "n")).splitlines() == ["name  n", "----  -"]
    assert counting.render_table(iter(rows), ("name", "n", "note"), total=("", 1001, "")).splitlines()[-2:] == [
        "---------  ----  ----",
        "           1001",
    ]
    with pytest.raises(ValueError, match=r"zip\(\)"):
        counting.render_table(rows, ("name", "n"))


# -- what others count ------------------------------------------------------------------------------------------------


def test_reconciliation_in_words():
    for (m, n, p), cell, bias in itertools.product(SIZES, CELLS, [True, False]):
        count = CELLS[cell](m, n, p, bias=bias)
        torch, keras, onnx, *head = count.reconciliation()
        G, weights = BLOCKS[cell], BLOCKS[cell] * n * (m + n)
        assert count.elsewhere == {
            "torch": weights + bias * 2 * G * n,  # b_ih (G·H,) and b_hh (G·H,)
            "keras": weights + bias * (2 if cell == "gru" else 1) * G * n,  # (G·H,), for a GRU with reset_after (2, 3H)
            "onnx": weights + bias * 2 * G * n,  # B: Wb and Rb, G·H each
        }
        for line, number in zip((torch, keras, onnx), count.elsewhere.values(), strict=True):
            assert "\n" not in line
            if number == count.recurrent:
                assert f": {number}, the same: " in line
            else:
                assert f": {number} = {count.recurrent} + {number - count.recurrent}: " in line
        assert head == ([] if p is None else [f"The head counts {count.head} everywhere."])


def test_reconciliation_word_for_word():
    assert counting.gru(10, 20).reconciliation() == [
        "torch nn.GRU: 1920 = 1880 + 40: two biases, b_ih (60,) and b_hh (60,); "
        "of the second, only b_hn (20,) cannot be folded into the first.",
        "Keras GRU(reset_after=True): 1920 = 1880 + 40: two biases in one array (2, 60); "
        "of the second, only b_hn (20,) cannot be folded into the first.",
        "ONNX GRU(linear_before_reset=1): 1920 = 1880 + 40: two biases in its input B, Wb (60,) and Rb (60,); "
        "of the second, only b_hn (20,) cannot be folded into the first.",
    ]
    assert counting.gru(10, 20, reset_after=False).reconciliation() == [
        "torch nn.GRU: 1920 = 1860 + 60: but this is another cell, the one with reset_after=True; torch has no other.",
        "Keras GRU(reset_after=False): 1860, the same: one bias (60,).",
        "ONNX GRU(linear_before_reset=0): 1920 = 1860 + 60: two biases in its input B, Wb (60,) and Rb (60,), "
        "which are added up and act as one.",
    ]
    assert counting.lstm(10, 20, bias=False).reconciliation() == [
        "torch nn.LSTM: 2400, the same: bias=False.",
        "Keras LSTM: 2400, the same: use_bias=False.",
        "ONNX LSTM: 2400, the same: its input B is optional and left out.",
    ]


@pytest.mark.peer
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_reconciliation_with_torch(torch, cell, bias):
    for m, n, p in SIZES:
        layer = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](m, n, bias=bias)
        count = CELLS[cell](m, n, p, bias=bias)
        assert sum(q.numel() for q in layer.parameters()) == count.elsewhere["torch"]
        assert tuple(layer.weight_ih_l0.shape) == count.shapes_column["W_xh"]  # torch stores note 000's orientation
        assert tuple(layer.weight_hh_l0.shape) == count.shapes_column["W_hh"]
        if bias:
            assert tuple(layer.bias_ih_l0.shape) == tuple(layer.bias_hh_l0.shape) == count.shapes["b_h"]
        if p is not None:
            assert sum(q.numel() for q in torch.nn.Linear(n, p, bias=bias).parameters()) == count.head


# -- errors -----------------------------------------------------------------------------------------------------------


def test_bad_sizes():
    m, n, p = "m (number of inputs)", "n (number of hidden neurons)", "p (number of output neurons)"
    for sizes, argument, got in [
        ((0, 20), m, "0: try 1 or more"),
        ((10, -1), n, "-1: try 1 or more"),
        ((10, 20, 0), p, "0: leave p out for a network without a head"),
        ((10.0, 20), m, "10.0 (float): try 10"),
        ((10, "20"), n, "'20' (str): try 1"),
        ((10, None), n, "None (NoneType): try 1"),
        ((True, 20), m, "True (bool): try 1"),
        ((10, 20, False), p, "False (bool): leave p out for a network without a head"),
    ]:
        for cell in ("elman", "lstm", "gru"):
            with raises(TypeError if "(" in got else ValueError, f"{cell}: {argument} must be an int ≥ 1, got {got}"):
                getattr(counting, cell)(*sizes)
