import numpy as np
import pytest

from minirnn.drawing.charts import curve, means


def drawn(*values, width=20, height=5, **settings):
    return curve(np.array(values, float), width, height, "title", ends=("0", "end"), unit="steps", **settings).split(
        "\n"
    )


def test_a_linear_curve():
    assert drawn(3.0, 3.0, 2.0, 1.0, 2.0) == [
        "title",
        "3 ┤──╮",
        "  │  │",
        "2 ┤  ╰╮╭",
        "  │   ││",
        "1 ┤   ╰╯",
        "  └─────",
        "   0 end",
    ]


def test_a_logarithmic_curve_with_zeros_has_a_row_for_them():
    assert drawn(0.0, 0.0, 1e-40, 1e-20, 1.0, height=6, logarithmic=True) == [
        "title (logarithmic)",
        "    1 ┤    ╭",
        "      │    │",
        "1e-20 ┤   ╭╯",
        "      │   │",
        "1e-40 ┤  ╭╯",
        "    0 ┤──╯",
        "      └─────",
        "       0 end",
    ]


def test_what_hardly_changes_looks_flat_over_decades():
    lines = drawn(1.0, 0.9, 0.8, 0.9, logarithmic=True, decades=2)
    assert lines[1] == "   1 ┤────"
    assert lines[5] == "0.01 ┤"
    assert "╮" in "".join(drawn(1.0, 0.9, 0.8, 0.9, logarithmic=True))


@pytest.mark.parametrize("logarithmic", [False, True])
def test_what_is_not_finite_leaves_a_gap(logarithmic):
    lines = drawn(2.0, np.nan, 2.0, np.inf, 1.0, height=3, logarithmic=logarithmic)
    plot = [line[line.index("┤" if "┤" in line else "│") + 1 :] for line in lines[1:4]]
    assert plot == ["─ ─", "", "    ─"]


@pytest.mark.parametrize("values", [(0.0, 0.0), (np.nan, np.nan), (5.0,), (0.0, np.nan, 1e300)])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_worst_inputs_are_drawn_at_their_size(values, logarithmic):
    lines = drawn(*values, height=4, logarithmic=logarithmic)
    assert len(lines) == 1 + 4 + 2
    assert ("─" in "".join(lines[1:5])) == bool(np.isfinite(values).any())


def test_more_values_than_columns():
    values = np.arange(1, 101.0)
    assert means(values, 10).tolist() == [5.5 + 10 * i for i in range(10)]
    assert means(values, 200).tolist() == values.tolist()
    assert drawn(*values, width=10)[0] == "title, each column the mean of 10 steps"
    assert drawn(*values, width=9)[0] == "title, each column the mean of 11 or 12 steps"
