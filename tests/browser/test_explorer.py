"""The explorer in a real browser: slider, play, hover, click and keys do what they say, the numbers are the trace's.

It needs playwright (pip install -e '.[browser]') and Chromium or Chrome on the path. What the page is made of is
tests/bptt/test_page.py.
"""

import base64
import math
import shutil

import numpy as np
import pytest
from bptt_cases import KINDS, WAYS, D, H, N, T, make

import minirnn as mr

pytestmark = pytest.mark.browser
LAST = 2 * T - 1
WIDE, PHONE = {"width": 1400, "height": 1000}, {"width": 420, "height": 900}
MINUS = "−"
SUBSCRIPTS = str.maketrans("0123456789-", "₀₁₂₃₄₅₆₇₈₉₋")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium or Chrome on the path")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def show(browser, tmp_path):
    """Write the page of a trace and open it; whatever the browser complains of or asks for fails the test."""
    contexts, complaints = [], []

    def open_page(trace, title=None, viewport=WIDE, history=None, **options):
        path = tmp_path / f"{len(contexts)}.html"
        if history is None:
            trace.to_html(path, title)
        else:  # a training: traces by their update
            mr.bptt.training_to_html(trace, path, title=title, history=history)
        contexts.append(browser.new_context(viewport=viewport, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request", lambda asked: complaints.append(asked.url) if asked.url.split("#")[0] != path.as_uri() else None
        )
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        return Explorer(page)

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def number(value):
    """Write a number as the page does."""
    if value == 0 or not math.isfinite(value):
        return {"0.0": "0", "-0.0": "0", "inf": "inf", "-inf": f"{MINUS}inf"}.get(str(float(value)), "NaN")
    mantissa, exponent = f"{value:.3e}".split("e")
    e = int(exponent)
    plain = abs(value) >= 1e-3 and e < 4
    return (f"{value:.{3 - e}f}" if plain else f"{mantissa}e{e}").replace("-", MINUS)


def sub(t):
    return str(t).translate(SUBSCRIPTS)


class Explorer:
    """An open page, and the ways to use it."""

    def __init__(self, page):
        self.page = page

    def text(self, name):
        return self.page.inner_text(f"#{name}")

    def settle(self):
        """Wait until what was asked for is drawn: two frames."""
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def place(self):
        """Return the phase and the step that the network shows."""
        self.settle()
        data = self.page.evaluate("({...document.getElementById('network').dataset})")
        return data["phase"], int(data["t"])

    def path(self):
        self.settle()
        return self.page.get_attribute("#network", "data-path")

    def slide(self, p, name="time"):
        self.page.evaluate(
            "([id, p]) => { const s = document.getElementById(id); s.value = p; s.dispatchEvent(new Event('input')); }",
            [name, p],
        )
        self.settle()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def pair(self, s, k, steps=T):
        """Return where a pair of the credit matrix is, within its canvas."""
        self.page.locator("#credit").scroll_into_view_if_needed()
        box = self.page.locator("#credit").bounding_box()
        cell = (box["width"] - 46 - 8) / steps
        return {"x": 46 + (k + 0.5) * cell, "y": 8 + (s + 0.5) * cell}

    def pixels(self, canvas):
        """Return the pixels of a canvas, (height, width, 4), by way of a copy that is made to be read."""
        width, height, data = self.page.evaluate(
            """id => {
              const from = document.getElementById(id), to = document.createElement("canvas");
              [to.width, to.height] = [from.width, from.height];
              const g = to.getContext("2d", { willReadFrequently: true });
              g.drawImage(from, 0, 0);
              const bytes = g.getImageData(0, 0, to.width, to.height).data;
              let text = "";
              for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
              return [to.width, to.height, btoa(text)];
            }""",
            canvas,
        )
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4).astype(int)

    def colours(self, canvas, points):
        """Return the colours of points of a canvas."""
        pixels = self.pixels(canvas)
        return [tuple(pixels[round(at["y"]), round(at["x"])]) for at in points]

    def term(self, name):
        """Return the cells of a term of the equation: its shape, then its numbers."""
        rows = self.page.locator("#equation tr").filter(has=self.page.locator(f'th:text-is("{name}")'))
        return rows.first.locator("td").all_inner_texts()

    def symbols(self):
        return self.page.locator(".symbols").all_inner_texts()

    def wait_until(self, holds):
        """Wait until something is so, for 10 s at most; the page forbids what playwright's own way would do in it."""
        for _ in range(200):
            if holds():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it never was so")


def elman(**settings):
    return make("elman", **settings).trace()


# --- every layer, every place -----------------------------------------------------------------------------------------


def everywhere(explorer, steps, rows):
    """Go to every place with the first and the last row, and cut at every length."""
    walk = """async ([id, values]) => {
      const seen = [], slider = document.getElementById(id);
      for (const value of values) {
        slider.value = value;
        slider.dispatchEvent(new Event("input"));
        await new Promise(requestAnimationFrame);
        await new Promise(requestAnimationFrame);
        const { phase, t } = document.getElementById("network").dataset;
        const said = document.getElementById("now").textContent;
        seen.push([phase, t, said, document.body.innerText.includes("undefined")]);
      }
      return seen;
    }"""
    for row in {0, rows - 1}:
        if rows > 1:
            explorer.page.select_option("#row", str(row))
        for p, (phase, t, said, undefined) in enumerate(explorer.page.evaluate(walk, ["time", list(range(2 * steps))])):
            assert phase == ("forward" if p < steps else "backward")
            assert f"step {t} of 0 … {steps - 1}: " in said
            assert not undefined
    if explorer.page.is_visible("#k2"):
        explorer.page.evaluate(walk, ["k2", list(range(1, steps + 1))])


@pytest.mark.parametrize(("i", "kind"), [*enumerate(KINDS)])
def test_every_kind_of_layer_with_padding(show, i, kind):
    everywhere(show(make(kind, lengths=[3, 7, 1, 6], reverse=bool(i % 2)).trace()), T, N)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("elman", (1, 1, 3, 5)), ("lstm", (1, 3, 1, 1)), ("gru", (4, 1, 30, 2)), ("lstm", (3, 2, 2, 40))],
)
def test_other_sizes(show, kind, sizes):
    everywhere(show(make(kind, sizes=sizes).trace()), *sizes[:2])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_shown_as_that(show, value):
    case = make("relu", seed=3)
    case.x[3, 2, 1] = value
    with np.errstate(all="ignore"):
        trace = case.trace()
    explorer = show(trace)
    everywhere(explorer, T, N)
    assert explorer.text("run").endswith("loss NaN")
    assert "not finite" in explorer.text("doctor")
    assert "NaN" in explorer.text("share")


def test_no_gradient_at_all(show):
    case = make("elman")
    explorer = show(mr.bptt.trace(case.layer, case.x, lambda outputs: (outputs * 0).sum()))
    everywhere(explorer, T, N)
    assert "No pair has a credit" in explorer.text("credit-ticks")
    assert explorer.text("so-far") == "0 of 0"


def test_clipped_messages_leave_no_credit_and_the_page_says_why(show):
    explorer = show(elman(message_clip=0.1))
    everywhere(explorer, T, N)
    assert "message_clip=0.1" in explorer.text("credit-missing")
    assert not explorer.page.is_visible("#credit")
    explorer.slide(LAST)
    assert "dL/dh₀ = clipped(local + carried)" in explorer.text("equation")


# --- the numbers shown are the trace's --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "way"), [("elman", "reverse"), ("lstm", "plain")])
def test_the_numbers_of_each_step_are_the_traces(show, kind, way):
    trace = make(kind, **WAYS[way]).trace()
    explorer = show(trace)
    reverse = way == "reverse"
    explorer.page.select_option("#row", "2")
    explorer.page.emulate_media(reduced_motion="reduce")
    norms = {name: np.linalg.norm(a[:, 2], axis=1) for name, a in vars(trace).items() if name.startswith("dL_dh")}
    shares, total = trace.norms_by_step["W_hh"], np.linalg.norm(trace.gradients["W_hh"])
    for k in range(T):
        t, before = (T - 1 - k, T - k) if reverse else (k, k - 1)
        explorer.slide(k)
        said = explorer.text("now")
        assert said.startswith(f"Forward, step {t} of 0 … {T - 1}: ")
        source = f"h{sub(before)}" if 0 <= before < T else "the initial state"
        made = f"make h{sub(t)}, norm {number(np.linalg.norm(trace.hs[t, 2]))}. The loss looks at h{sub(t)}."
        assert f"x{sub(t)} and {source} {made}" in said
        explorer.slide(LAST - k)
        dh, local, carried = (number(norms[n][t]) for n in ("dL_dh", "dL_dh_local", "dL_dh_carried"))
        assert f"‖dL/dh{sub(t)}‖ = {dh}, of local {local} and carried {carried}." in explorer.text("now")
        assert f"a share of norm {number(shares[t])} into dW_hh" in explorer.text("now")
        together = number(trace.gradient_norms[t])
        assert explorer.text("norms-read").endswith(f"local {local}, carried {carried}; over all {N} rows {together}.")
        assert explorer.text("share") == number(shares[t])
        back = trace.dW_hh_by_step[: t + 1] if reverse else trace.dW_hh_by_step[t:]
        assert explorer.text("so-far") == f"{number(np.linalg.norm(back.sum(axis=0)))} of {number(total)}"
        singular = ", ".join(number(v) for v in trace.singular_values(t, before)[2])
        assert f"From step {t}: {singular}." in explorer.text("singular-read")


def test_the_equation_has_the_real_numbers(show):
    trace = elman()
    explorer = show(trace)
    explorer.page.select_option("#row", "1")

    explorer.slide(3)
    assert explorer.text("equation-step") == "3, forward"
    assert explorer.symbols() == ["z₃ = x₃ Wₓₕ + h₂ Wₕₕ + b", "h₃ = φ(z₃) = tanh(z₃)"]
    x, h, before, layer = trace.x[3, 1], trace.hs[3, 1], trace.hs[2, 1], trace.layer
    shown = {"x₃": x, "h₂": before, "x₃ Wₓₕ": x @ layer.W_xh.data, "h₂ Wₕₕ": before @ layer.W_hh.data}
    shown |= {"b": layer.b_h.data, "z₃": trace.pre_activations[3, 1], "h₃": h}
    for name, values in shown.items():
        assert explorer.term(name)[1:] == [number(v) for v in values], name
    explorer.slide(LAST - 3)
    shown = {"local": trace.dL_dh_local, "carried": trace.dL_dh_carried, "dL/dh₃": trace.dL_dh, "dL/dz₃": trace.dL_dz}
    for name, values in shown.items():
        assert explorer.term(name)[1:] == [number(v) for v in values[3, 1]], name
    assert explorer.term("φ′")[1:] == [number(v) for v in 1 - h**2]
    assert "φ′ = 1 - h₃²" in explorer.symbols()


def test_why_the_first_step_drops_nothing(show):
    case = make("elman")
    explorer = show(mr.bptt.trace(case.layer, case.x, case.loss))  # from zeros
    explorer.slide(LAST)
    assert explorer.text("now").endswith("Step 0 drops nothing into dW_hh, which met an initial state of zeros.")
    explorer.page.hover("#credit", position=explorer.pair(4, 0))
    explorer.settle()
    assert "s = 4, k = 0: 0; 4 steps back. W_hh is multiplied with the initial state" in explorer.text("credit-read")


def test_the_thickness_of_an_arrow_is_that_of_its_norm(show):
    """A gradient that hardly shrinks looks so; one that has shrunk by decades is thin."""
    thick = {}
    for scale in (1.0, 0.1):
        layer = mr.RecurrentLayer(D, H, activation="identity", dtype=np.float64)
        layer.W_hh.data = scale * np.eye(H)
        trace = mr.bptt.trace(layer, np.ones((T, 1, D)), lambda outputs: outputs[-1].sum())
        explorer = show(trace, reduced_motion="reduce")
        explorer.slide(LAST)
        at = round((column(explorer, 0) + column(explorer, 1)) / 2 + 4)
        thick[scale] = int((explorer.pixels("network")[74 + 30 : 74 + 75, at, 3] > 128).sum())
    assert thick[1.0] >= 12
    assert thick[0.1] <= 4


def test_the_doctors_report_is_there(show):
    trace = elman()
    report = mr.bptt.doctor(trace)
    said = show(trace).text("doctor")
    assert said.startswith(report.verdict)
    for finding in [*report.findings, *report.advice]:
        assert finding.text in said


# --- slider, play, keys -----------------------------------------------------------------------------------------------


def test_the_slider_goes_forward_and_then_back(show):
    explorer = show(elman())
    assert explorer.place() == ("backward", T - 1)  # where the gradient starts
    slider = explorer.page.locator("#time")
    box = slider.bounding_box()
    explorer.page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    assert explorer.place() == ("backward", 0)
    explorer.page.mouse.click(box["x"] + box["width"] * 0.5 - 8, box["y"] + box["height"] / 2)
    assert explorer.place() in [("forward", T - 1), ("backward", T - 1)]
    slider.focus()
    explorer.press("Home", "ArrowRight", "ArrowRight")
    assert explorer.place() == ("forward", 2)
    assert slider.get_attribute("aria-valuetext").startswith("Forward, step 2 of 0 … 6: ")
    explorer.press("End", "ArrowLeft")
    assert explorer.place() == ("backward", 1)


def test_play_goes_on_to_the_end_pauses_and_starts_again(show):
    explorer = show(elman())
    explorer.page.click("#play")
    explorer.wait_until(lambda: int(explorer.page.input_value("#time")) >= 1)
    explorer.page.click("#play")
    explorer.settle()
    before = explorer.place()
    explorer.page.wait_for_timeout(1500)  # two steps' time
    assert (explorer.place(), explorer.text("play")) == (before, "Play")
    explorer.page.select_option("#speed", "4")
    explorer.page.click("#play")
    explorer.settle()
    assert explorer.text("play") == "Pause"
    explorer.wait_until(lambda: explorer.page.input_value("#time") == str(LAST))
    explorer.wait_until(lambda: explorer.text("play") == "Play")
    assert explorer.place() == ("backward", 0)
    explorer.page.click("#play")
    explorer.wait_until(lambda: explorer.place()[0] == "forward")


def test_keys_and_buttons(show):
    explorer = show(elman())
    explorer.press("Home")
    for keys, place in [
        (["ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"], ("forward", 2)), (["End"], ("backward", 0)),
        (["ArrowRight"], ("backward", 0)), (["Home"], ("forward", 0)),
    ]:  # fmt: skip
        explorer.press(*keys)
        assert explorer.place() == place
    explorer.press(" ")
    assert explorer.text("play") == "Pause"
    explorer.press("ArrowRight")  # a step by hand stops playing
    assert explorer.text("play") == "Play"
    for button, place in {"last": ("backward", 0), "back": ("backward", 1), "on": ("backward", 0)}.items():
        explorer.page.click(f"#{button}")
        assert explorer.place() == place
    explorer.page.click("#first")
    explorer.page.click("#back")
    assert explorer.place() == ("forward", 0)


def test_keys_of_other_controls_are_theirs(show):
    explorer = show(elman())
    explorer.press("Home", "ArrowRight")
    explorer.page.focus("#k2")
    explorer.press("ArrowLeft", "ArrowLeft", "Home", "ArrowRight")
    assert explorer.text("k2-value") == f"k2 = 2 of {T}"
    explorer.page.focus("#row")
    explorer.press("End", "ArrowLeft")
    assert explorer.place() == ("forward", 1)
    explorer.page.focus("#on")
    explorer.press(" ")  # presses it once
    assert (explorer.place(), explorer.text("play")) == (("forward", 2), "Play")
    explorer.page.focus("#play")
    explorer.press(" ")
    assert explorer.text("play") == "Pause"


def test_without_motion_a_step_is_drawn_at_once(show):
    explorer = show(elman(), reduced_motion="reduce")
    explorer.slide(T + 2)
    first = explorer.pixels("network")
    explorer.page.wait_for_timeout(700)
    assert np.array_equal(explorer.pixels("network"), first)


# --- the network ------------------------------------------------------------------------------------------------------


def column(explorer, t, reverse=False):
    """Return the x of a step's column; all of them are in sight."""
    width = explorer.page.locator("#network").bounding_box()["width"]
    pitch = min(150, (width - 48) / (T + 1))
    return 48 + (width - 48 - (T + 1) * pitch) / 2 + (t + (0.5 if reverse else 1.5)) * pitch


@pytest.mark.parametrize("way", ["plain", "reverse"])
def test_a_unit_says_its_values_when_pointed_at(show, way):
    trace = elman(**WAYS[way])
    explorer = show(trace)
    explorer.page.hover("#network", position={"x": column(explorer, 4, way == "reverse"), "y": 74 + 2.5 * 18})
    h, dh, local, carried = (
        number(a[4, 0, 2]) for a in (trace.hs, trace.dL_dh, trace.dL_dh_local, trace.dL_dh_carried)
    )
    assert explorer.page.text_content("#tip").split("\n") == [
        f"h₄[2] = {h}", f"dL/dh₄[2] = {dh}", f"  local {local}, carried {carried}",
    ]  # fmt: skip
    explorer.page.mouse.move(5, 5)
    assert not explorer.page.is_visible("#tip")


def test_a_click_on_a_column_goes_there_in_the_phase_that_is_shown(show):
    explorer = show(elman())
    explorer.press("Home")
    explorer.page.click("#network", position={"x": column(explorer, 5), "y": 100})
    assert explorer.place() == ("forward", 5)
    explorer.press("End")
    explorer.page.click("#network", position={"x": column(explorer, 3), "y": 100})
    assert explorer.place() == ("backward", 3)


def test_the_arrows_of_what_is_cut_are_grey(show):
    """With a loss of the last output alone and k2 = 2, what is carried into steps T−2 and later is left, no more."""
    case = make("elman", sizes=(T, 1, D, H))
    trace = mr.bptt.trace(case.layer, case.x, lambda outputs: outputs[-1].sum())
    explorer = show(trace, reduced_motion="reduce")
    explorer.slide(LAST)
    middle = 74 + 2.5 * 18

    # of each arrow the middle: between two columns, at half their height
    points = [{"x": (column(explorer, t) + column(explorer, t + 1)) / 2, "y": middle} for t in range(T - 1)]
    before = explorer.colours("network", points)
    explorer.slide(2, "k2")
    after = explorer.colours("network", points)
    assert [t for t in range(T - 1) if before[t] == after[t]] == [T - 2]
    red, _, blue, _ = after[1]
    assert abs(red - blue) < 16  # grey
    assert before[1][0] - before[1][2] > 60  # it was orange


# --- credit and truncation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["plain", "reverse"])
def test_pointing_at_a_pair_reads_it(show, way):
    trace = elman(**WAYS[way])
    explorer, norms = show(trace), trace.credit().norms
    for s, k in [(5, 2), (4, 4), (6, 0)]:
        s, k = (T - 1 - s, T - 1 - k) if way == "reverse" else (s, k)
        explorer.page.hover("#credit", position=explorer.pair(s, k))
        explorer.settle()
        assert f"s = {s}, k = {k}: {number(norms[s, k])}" in explorer.text("credit-read")
        assert explorer.text("tip") == f"s = {s}, k = {k}\n{number(norms[s, k])}"
    s, k = (5, 1) if way == "reverse" else (1, 5)
    explorer.page.hover("#credit", position=explorer.pair(s, k))
    explorer.settle()
    assert "nothing" in explorer.text("credit-read")
    assert not explorer.page.is_visible("#tip")


def test_a_click_on_a_pair_lights_its_path_and_goes_there(show):
    explorer = show(elman())
    explorer.slide(LAST - 2)
    explorer.page.wait_for_timeout(700)  # until nothing moves
    before = explorer.pixels("network")
    explorer.page.click("#credit", position=explorer.pair(5, 2))
    assert explorer.path() == "5 2"
    assert explorer.place() == ("backward", 2)
    explorer.page.mouse.move(5, 5)
    explorer.settle()
    assert explorer.text("credit-read").startswith("s = 5, k = 2: ")
    changed = (explorer.pixels("network") != before).any(axis=2)
    lit = [changed[:, round(column(explorer, t)) - 11].any() for t in range(T)]
    assert lit == [t in (2, 3, 4, 5) for t in range(T)]
    explorer.press("Escape")
    assert explorer.path() == ""
    assert np.array_equal(explorer.pixels("network"), before)


def test_the_keys_of_the_credit_matrix(show):
    trace = elman()
    explorer = show(trace)
    explorer.press("Home")
    explorer.page.focus("#credit")
    explorer.press("ArrowUp", "ArrowUp", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft")
    assert f"s = 4, k = 2: {number(trace.credit().norms[4, 2])}" in explorer.text("credit-read")
    assert explorer.place() == ("forward", 0)  # the arrows are the matrix's here
    explorer.press("Enter")
    assert explorer.path() == "4 2"
    assert explorer.place() == ("backward", 2)
    explorer.press("Escape")
    assert explorer.path() == ""


@pytest.mark.parametrize("way", ["plain", "reverse"])
def test_truncation_greys_what_is_cut_and_says_the_angle(show, way):
    trace = elman(**WAYS[way])
    explorer, angles = show(trace), trace.truncation_angles(k1=1)
    credit = trace.credit()
    assert "Nothing is cut" in explorer.text("cut-read")
    order = (lambda t: T - 1 - t) if way == "reverse" else (lambda t: t)
    pairs = [(order(s), order(k)) for s in range(T) for k in range(s + 1)]
    points = [explorer.pair(*pair) for pair in pairs]
    before = explorer.colours("credit", points)
    for k2 in (1, 3, 6):
        explorer.slide(k2, "k2")
        assert explorer.text("k2-value") == f"k2 = {k2} of {T}"
        kept = {}
        for s in range(T):
            for k in range(T):
                if 0 <= order(s) - order(k) < k2:
                    for name, part in credit.contribution(s, k).items():
                        kept[name] = kept.get(name, 0) + part
        norm = number(np.sqrt(sum(np.square(part).sum() for part in kept.values())))
        said = f"points {number(angles[k2 - 1])}° away from the true one; norm {norm} of "
        assert said in explorer.text("cut-read")
        same = [a == b for a, b in zip(explorer.colours("credit", points), before, strict=True)]
        assert same == [abs(s - k) < k2 for s, k in pairs]
    s, k = order(6), order(0)
    explorer.page.hover("#credit", position=explorer.pair(s, k))
    explorer.settle()
    assert explorer.text("credit-read").endswith("Cut off by k2 = 6.")


def test_a_loss_of_one_output_has_one_row_of_credit(show):
    case = make("elman", sizes=(9, 2, D, H))
    trace = mr.bptt.trace(case.layer, case.x, lambda outputs: outputs[6].sum(), case.state)
    explorer = show(trace)
    at = explorer.pair(0, 4, 9) | {"y": 30}
    explorer.page.hover("#credit", position=at)
    explorer.settle()
    assert f"s = 6, k = 4: {number(trace.credit().norms[6, 4])}" in explorer.text("credit-read")
    explorer.page.click("#credit", position=at)
    assert explorer.path() == "6 4"
    explorer.page.focus("#credit")
    explorer.press("ArrowUp", "ArrowLeft", "Enter")
    assert explorer.path() == "6 3"


# --- charts -----------------------------------------------------------------------------------------------------------


def test_a_click_in_a_chart_goes_there(show):
    explorer = show(elman())
    explorer.press("Home")
    for chart in ("norms", "singular"):
        for t in (5, 1):
            svg = explorer.page.locator(f"#{chart}")
            svg.scroll_into_view_if_needed()
            width = svg.bounding_box()["width"]
            svg.click(position={"x": 52 + (width - 62) * t / (T - 1) + 3, "y": 60})
            assert explorer.place() == ("forward", t)
            marker = float(svg.locator(".marker").get_attribute("x1"))
            assert marker == pytest.approx(52 + (width - 62) * t / (T - 1), abs=0.01)
    svg = explorer.page.locator("#angles")
    svg.scroll_into_view_if_needed()
    svg.click(position={"x": 52 + (svg.bounding_box()["width"] - 62) * 2 / (T - 1), "y": 30})
    explorer.settle()
    assert explorer.text("k2-value") == f"k2 = 3 of {T}"
    assert explorer.page.input_value("#k2") == "3"


def test_the_norms_lie_where_the_axis_says(show):
    """Of two curves' points the distance is that of their logarithms."""
    trace = make("elman", sizes=(T, 1, D, H)).trace()
    explorer = show(trace)
    path = explorer.page.locator("#norms path").first.get_attribute("d")
    points = [tuple(map(float, point.split(","))) for point in path[1:].split("L")]
    assert len(points) == T
    xs, ys = np.array(points).T
    logs = np.log10(trace.gradient_norms)
    assert np.allclose(np.diff(xs), xs[1] - xs[0], atol=0.11)
    slope = (ys[logs.argmax()] - ys[logs.argmin()]) / (logs.max() - logs.min())
    assert slope < 0
    assert np.allclose(ys - ys[0], slope * (logs - logs[0]), atol=0.2)


@pytest.mark.parametrize("width", [1120, 1440, 700])
def test_what_stands_below_a_chart_does_not_lie_on_its_axis(show, width):
    """Also where the texts below grow or shrink: those of a step of padding are short."""
    case = make("elman", sizes=(30, 2, 3, 18), lengths=[30, 12])
    explorer = show(case.trace(), viewport={"width": width, "height": 900})
    below = """() => ["norms", "singular", "angles"].map(id => {
      const svg = document.getElementById(id), bottom = svg.getBoundingClientRect().bottom;
      return Math.max(...[...svg.querySelectorAll("text")].map(text => text.getBoundingClientRect().bottom)) - bottom;
    })"""
    for row, p in (("0", 59), ("1", 25), ("1", 5), ("0", 5)):
        explorer.page.select_option("#row", row)
        explorer.slide(p)
        assert max(explorer.page.evaluate(below)) < 0, (row, p)
        svg, t = explorer.page.locator("#norms"), min(p, 59 - p)
        wide = svg.bounding_box()["width"] - 62
        assert float(svg.locator(".marker").get_attribute("x1")) == pytest.approx(52 + wide * t / 29, abs=0.01)


# --- rows, names, colours, screens ------------------------------------------------------------------------------------


def test_dark_and_light_at_any_time(show):
    explorer = show(elman(), color_scheme="dark", reduced_motion="reduce")
    explorer.slide(T + 2)

    def background():
        return explorer.page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark, drawn = background(), explorer.pixels("network")
    explorer.page.emulate_media(color_scheme="light")
    explorer.page.wait_for_timeout(600)
    assert background() != dark
    changed = (explorer.pixels("network") != drawn).any(axis=2)
    assert changed[drawn[..., 3] > 0].mean() > 0.9  # of all that is drawn, but for shares: they are gold in both
    assert sum(int(v) for v in dark[4:-1].split(",")) < 120


@pytest.mark.parametrize(
    ("viewport", "kind"), [(PHONE, "lstm"), (WIDE, "elman"), ({"width": 800, "height": 600}, "lstm")]
)
def test_nothing_is_wider_than_the_screen(show, viewport, kind):
    explorer = show(make(kind, sizes=(30, 3, 4, 8)).trace(), "a long name " * 20, viewport=viewport)
    for p in (3, 57):
        explorer.slide(p)
        assert explorer.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_a_training_goes_from_one_moment_to_the_next(show):
    history = mr.training.History()
    for k in range(30):
        history.append(loss=1 / (k + 1), grad_norm=1.0, seconds=k)
    traces = {update: elman(seed=seed) for seed, update in enumerate((0, 10, 30))}
    explorer = show(traces, "adding", history=history)
    title = lambda: explorer.page.wait_for_selector("html[data-ready=yes]") and explorer.text("title")  # noqa: E731
    assert title() == "adding, after 30 updates"
    explorer.press("ArrowRight")
    with explorer.page.expect_navigation(wait_until="load"):
        explorer.page.keyboard.press("[")
    assert title() == "adding, after 10 updates"
    assert explorer.place() == ("backward", T - 2)  # the same step
    norm = number(np.linalg.norm(traces[10].dL_dh[T - 2, 0]))
    assert f"= {norm}, of local" in explorer.text("now")
    with explorer.page.expect_navigation(wait_until="load"):
        explorer.page.click(".moment >> nth=0")
    assert title() == "adding, after 0 updates"
    with explorer.page.expect_navigation(wait_until="load"):
        explorer.page.click("#run-loss", position={"x": 52 + 300, "y": 30})
    assert title() == "adding, after 10 updates"
    assert explorer.page.get_attribute(".moment.here", "aria-pressed") == "true"


def test_the_frame_in_a_notebook_works(browser, tmp_path):
    trace = elman()
    path = tmp_path / "notebook.html"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><h1 id=title>mine</h1>{trace._repr_html_()}", encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("#last").click()
    assert "Backward, step 0 of" in frame.locator("#now").inner_text()
    assert page.locator("#title").inner_text() == "mine"
    page.close()


def test_200_steps_of_128_neurons_stay_smooth(show, monkeypatch):
    from minirnn.bptt.page import numbers

    monkeypatch.setattr(numbers, "MULTIPLICATIONS", 1e9)
    x = np.random.default_rng(0).normal(size=(200, 8, 32))
    layer = mr.LSTMLayer(32, 128, rng=0)
    explorer = show(mr.bptt.trace(layer, x, lambda outputs: (outputs[-1] ** 2).sum()))
    times = explorer.page.evaluate(
        """async () => {
          const slider = document.getElementById("time"), times = [], frame = () => new Promise(requestAnimationFrame);
          for (let p = 150; p < 250; p += 4) {
            const start = performance.now();
            slider.value = p;
            slider.dispatchEvent(new Event("input"));
            await frame();
            await frame();
            times.push(performance.now() - start);
          }
          return times.sort((a, b) => a - b);
        }"""
    )
    assert times[len(times) // 2] < 100  # two frames, at 20 a second: without a graphics card, beside other work
