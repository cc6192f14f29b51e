import re

import pytest
from drawing.reading import SVG, heads, parsed, texts, viewbox

from minirnn.drawing.canvas import Canvas, Piece, fitted, maths, parameter, plain, width

NASTY = [
    "<script>alert(1)</script>",
    "a & b",
    "\"quoted\" 'too'",
    "]]>",
    "</svg>",
    "nul \x00 and \x1b",
    "\ud800",
    "\uffff",
]


@pytest.mark.parametrize("name", NASTY)
def test_text_stays_text(name):
    canvas = Canvas()
    canvas.text(0, 0, plain(name))
    svg = canvas.document(name, name)
    shown = re.sub("[\x00\x1b\ud800\uffff]", "�", name)
    assert texts(svg) == [shown]
    root = parsed(svg)
    assert [e.tag for e in root] == [SVG + tag for tag in ("title", "desc", "style", "rect", "text")]
    assert root.find(SVG + "title").text == root.find(SVG + "desc").text == root.get("aria-label") == shown
    svg.encode("utf-8")


def test_all_is_within_the_viewbox():
    canvas = Canvas()
    canvas.box(0, 0, 100, 20, "cell")
    canvas.text(200, -30, plain("to the left of here"), "end")
    canvas.line([(0, 10), (0, 90), (-70, 90)])
    other = Canvas()
    other.dot(0, 0)
    other.box(0, 0, 10, 10, "cell")
    canvas.add(other, 400, 0)
    left, top, right, bottom = viewbox(canvas.document("", ""))
    assert left < -70
    assert top < -38
    assert right > 405
    assert bottom > 90


def test_a_subscript_goes_down_and_what_follows_comes_up_again():
    canvas = Canvas()
    canvas.text(0, 0, maths("h_{t} W_{hh}"), size=10)
    spans = list(parsed(canvas.document("", "")).iter(SVG + "tspan"))
    assert [span.get("dy") for span in spans] == [None, "2.8", "-2.8", None, "2.8"]
    assert [span.get("class") for span in spans] == [None, None, None, "weight", "weight"]


def test_nothing_on_the_page_is_disturbed_or_fetched():
    canvas = Canvas()
    canvas.line([(0, 0), (10, 0)])
    svg = canvas.document("t", "d")
    root = parsed(svg)
    assert not any("id" in e.attrib or "href" in " ".join(e.attrib) for e in root.iter())
    style = root.find(SVG + "style").text
    selectors = re.findall(r"([^{}]+)\{[^{}]*\}", style.replace("@media (prefers-color-scheme:dark){", ""))
    assert len(selectors) > 20
    assert all(selector.startswith(".minirnn-drawing") for selector in selectors)
    assert "url(" not in svg
    assert "import" not in svg


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_corner_is_rounded_on_its_own_sides_of_which_it_takes_half_at_most():
    canvas = Canvas()
    canvas.line([(0, 0), (0, 10), (30, 10), (30, 60)])
    (line,) = (element for element in canvas.elements if 'class="line"' in element)
    assert re.search(' d="(.*?)"', line)[1] == "M0,0 L0,5 Q0,10 5,10 L21,10 Q30,10 30,19 L30,53"


def test_the_head_of_a_line_that_slants_is_isosceles_on_it_too():
    for end in ((30, 40), (-40, 30), (-5, -60), (50, -2)):
        canvas = Canvas()
        canvas.line([(0, 0), end])
        ((start, tip, _),) = heads(canvas.document("", ""))
        assert (start, tip) == ((0, 0), end)


def test_text_can_be_read_on_every_ground():
    """WCAG 2: 4.5 to 1 at least, in the light and the dark version."""
    canvas = Canvas()
    canvas.dot(0, 0)
    canvas.box(0, 0, 1, 1, "cell")
    for style in parsed(canvas.document("", "")).find(SVG + "style").text.split("@media"):
        fill = dict(re.findall(r"(\.?[\w-]+)\{fill:(#\w+)", style))
        for ground in (".paper", ".cell", ".gate", ".input", ".output", ".plain"):
            for ink in ("text", ".muted", ".weight"):
                low, high = sorted(map(_luminance, (fill[ink], fill[ground])))
                assert (high + 0.05) / (low + 0.05) >= 4.5


# --- text -------------------------------------------------------------------------------------------------------------


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


def test_widths():
    assert width(maths("h_{ab}")) < width(plain("hab"))
    assert width(plain("i")) < width(plain("n")) < width(plain("W")) < width(plain("状"))
    for room in (0, 5, 40, 88, 1000):
        text = fitted("AVeryLongNameOfACell", room)
        assert text == "…" or width(plain(text)) <= room
        assert (text == "AVeryLongNameOfACell") == (room == 1000)
