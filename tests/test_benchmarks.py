"""benchmarks/: names, tables and verdicts from made-up figures; no contestant is timed whose results are wrong.

Nothing is timed here.
"""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from benchmarks import __main__ as command_line
from benchmarks import (
    adding,
    bars,
    cases,
    cold_adding,
    contestants,
    door,
    inference,
    learners,
    ragged,
    roster,
    rounds,
    side_by_side,
    slope,
    step,
    stream,
    tables,
    tape,
    trace,
)

ROOT = Path(__file__).parents[1]
TINY = cases.Shape(3, 5, 4, 6)
LABELS = tables.labels_of(dict.fromkeys(peer for peers in roster.PEERS.values() for peer in peers))


def parsed(line):
    return command_line.parse(command_line.make_parser(), line.split())


def needs(peer):
    """Skip, with the reason, unless a peer is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a peer warns of while it is imported is not ours to mend
        for package in peer.packages:
            reason = f"{package} is not installed: pip install -e '.[bench]'"
            if pytest.importorskip(package, reason=reason).__file__ is None:
                pytest.skip(reason)  # what was found is a folder of tests of the same name


def of_peers(command):
    """Return one parameter for each peer of a command; those that must be installed are marked."""
    return [
        pytest.param(peer, id=peer.name, marks=[pytest.mark.peer] * (peer.packages != ("minirnn",)))
        for peer in roster.PEERS[command]
    ]


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_its_peers_and_the_cell():
    commands = [parsed(line).command for line in ("", "--threads 2", "step", "tape --cpu 0")]
    assert commands == ["layer", "layer", "step", "tape"], "without a command it is layer"
    assert parsed("layer --peers jax,torch").peers == (roster.TORCH, roster.JAX)
    assert parsed("layer --dtype float64").dtype == "float64"
    assert parsed("forward").peers == (roster.FLOOR, roster.TORCH, roster.JAX, roster.ONNX)
    assert parsed("ragged").peers == (roster.TORCH,)
    cells = [parsed(line).cell for line in ("layer", "layer --cell gru", "ragged", "step")]
    assert cells == ["elman", "gru", None, None]
    peers = parsed("layer --cell lstm").peers
    assert [peer.label for peer in peers[1:]] == ["bare products", "torch.nn.LSTM", "jax.lax.scan", "minirnn, graph"]
    assert parsed("layer --cell gru --peers torch").peers[0].label == "torch.nn.GRU"
    assert parsed("layer").peers == roster.PEERS["layer"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "layer --peers torhc",
            "layer: unknown peer 'torhc': known are one-thread, floor, torch, jax, graph, torch-eager, autograd, "
            "mygrad",
        ),
        ("step --peers torch,onnxruntime", "step: unknown peer 'onnxruntime': known are torch, jax"),
        (
            "layer --cell lstm --peers torch,mygrad",
            "layer: peer 'mygrad' has no lstm: known are one-thread, floor, torch, jax, graph",
        ),
        ("ragged --peers jax", "ragged: unknown peer 'jax': known are torch"),
        ("step --cell gru", "unrecognized arguments: --cell gru"),
        ("ragged --plot x.svg", "unrecognized arguments: --plot x.svg"),
        ("layer --shape 1,2,3", "argument --shape: expected four sizes N,T,D,H, got '1,2,3'"),
        ("layer --shape 1,2,0,3", "argument --shape: expected a whole number ≥ 1, got '0'"),
        ("step --turns 1", "argument --turns: expected a whole number ≥ 2, got '1'"),
        ("step --threads 0", "argument --threads: expected a whole number ≥ 1, got '0'"),
        ("step --json nowhere/x.json", "cannot write nowhere/x.json: there is no folder nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(line, fault, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed(line)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {fault}\n")


def test_peers_that_are_not_installed_are_named_and_left_out(monkeypatch, capsys):
    monkeypatch.setattr(command_line, "find_spec", lambda package: None if package in ("torch", "onnx") else "there")
    options = parsed("forward")
    command_line.leave_out_absent(options, command_line.Sheet())
    assert options.peers == [roster.FLOOR, roster.JAX]
    assert capsys.readouterr().out == ('\nNot installed: torch.nn.RNN, onnxruntime. Try pip install -e ".[bench]"\n')


def test_settle():
    for arguments, said in (
        ("threads=1", "1 thread, the whole process on CPU"),
        ("cpu=4096", "which this process may use, got 4096"),
    ):
        code = f"from benchmarks.settle import settle\nprint(settle({arguments}))"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert said in done.stdout + done.stderr


def test_settle_comes_before_numpy():
    with raises(RuntimeError, "settle: numpy is imported already: call settle before anything that imports it"):
        command_line.settle()


# --- tables and verdicts ----------------------------------------------------------------------------------------------


def made_up(**seconds):
    """Return what would be measured if every turn took just so long."""
    return rounds.Measured([{name: [[s, s, s]] * 3 for name, s in seconds.items()}])


def test_a_table_has_a_row_a_contestant():
    measured = made_up(minirnn=0.002, torch=0.005)
    measured.left_out["mygrad"] = "0.7 s a call"
    labels = tables.labels_of((roster.TORCH, roster.MYGRAD))
    assert tables.of_contestants(measured, labels) == (
        "|              |    µs |     quartiles | × minirnn |   quartiles |\n"
        "| ------------ | ----: | ------------: | --------: | ----------: |\n"
        "| minirnn      | 2,000 | 2,000 … 2,000 |      1.00 | 1.00 … 1.00 |\n"
        "| torch.nn.RNN | 5,000 | 5,000 … 5,000 |      2.50 | 2.50 … 2.50 |\n\n"
        "MyGrad: left out, 0.7 s a call."
    )


def test_the_summary_has_a_row_a_shape_and_a_dash_for_who_did_not_run():
    results = {TINY: made_up(minirnn=2e-6, floor=1e-6, torch=5e-6), cases.SHAPES[0]: made_up(minirnn=1e-4, floor=5e-5)}
    assert tables.summary(results, LABELS) == (
        "| N, T, D, H    | minirnn, µs | bare products, µs | torch.nn.RNN, µs | torch.nn.RNN ÷ minirnn | "
        "minirnn ÷ bare products |\n"
        "| ------------- | ----------: | ----------------: | ---------------: | ---------------------: | "
        "----------------------: |\n"
        "| 3, 5, 4, 6    |        2.00 |              1.00 |             5.00 |                   2.50 | "
        "                   2.00 |\n"
        "| 1, 50, 10, 20 |         100 |              50.0 |                – |                      – | "
        "                   2.00 |"
    )


def test_op_by_op_contestants_are_divided_by_the_minirnn_of_their_own_turns():
    measured = rounds.Measured([{"minirnn": [[1.0, 1.0]]}, {"minirnn": [[2.0, 2.0]], "mygrad": [[8.0, 8.0]]}])
    assert measured.names() == ["minirnn", "mygrad"]
    assert measured.spread("minirnn").median == 1.0
    assert measured.ratio("mygrad").median == 4.0


def test_geometric_means():
    ratios = (8.0, 2.0, 4.5)
    shapes = cases.SHAPES[:3]  # N = 1, 32, 16
    results = {shape: made_up(minirnn=1.0, torch=ratio) for shape, ratio in zip(shapes, ratios, strict=True)}
    assert tables.geometric_means(results, LABELS) == [
        "torch.nn.RNN ÷ minirnn, geometric mean: 4.16 over 3 shapes, 3.00 over those with N ≥ 16"
    ]


def everywhere(ratio, **others):
    return dict.fromkeys(cases.SHAPES, ratio) | {cases.SHAPES[int(i[1:])]: r for i, r in others.items()}


def verdicts(judged):
    return [bar.met for bar in judged]


def test_bars_that_are_met_and_missed():
    judged = bars.of_layer(everywhere(3.5, _5=1.1), everywhere(1.6, _0=1.0, _8=1.2), everywhere(1.2, _1=1.7, _0=2.2))
    assert verdicts(judged) == [True] * 6
    assert bars.lines(judged).splitlines()[:2] == [
        "- met: as fast as jax at (1, 50, 10, 20): least 1.000 × at (1, 50, 10, 20)",
        "- met: ≥ 1.2 times as fast as jax at (32, 50, 10, 20), (4, 100, 3, 16), (16, 100, 3, 16): "
        "least 1.200 × at (4, 100, 3, 16)",
    ]
    judged = bars.of_layer(everywhere(2.8, _3=1.09), everywhere(1.4, _0=0.99, _9=1.19), everywhere(1.2, _1=1.71, _9=2))
    assert verdicts(judged) == [False] * 6
    assert bars.lines(judged).splitlines()[-1].endswith("1.710 × at (32, 50, 10, 20); 2.000 × at (16, 100, 3, 16)")
    few_rows = bars.of_layer({}, {}, everywhere(1.2, _8=9.0))[-1]
    assert few_rows.met, "nothing is asked at N = 4"


def test_bars_without_their_figures_are_not_measured():
    judged = [*bars.of_layer({}, {}, {}), *bars.of_threads("elman", {}, {}), *bars.of_forward({TINY: 2.0})]
    judged += [bars.at_least("fast", {}, 3.0), bars.of_slope(None), *bars.of_ragged("it", {}, [TINY])]
    judged += [*bars.of_gated("lstm", {TINY: 1.0}), *bars.of_gated("gru", {}), *bars.of_float64("elman", {})]
    assert {bar.met for bar in judged} == {None}


def test_bars_of_layers_with_gates():
    good = {"_0": 0.75, "_1": 1.2, "_2": 1.25, "_3": 0.95, "_4": 1.0}
    judged = bars.of_gated("lstm", everywhere(9.0, **good))
    assert verdicts(judged) == [True, False]
    assert bars.lines(judged).splitlines() == [
        "- met: torch.nn.LSTM ÷ minirnn ≥ 1.2 at (32, 50, 10, 20), ≥ 1.25 at (16, 400, 2, 100), ≥ 0.95 at "
        "(32, 100, 64, 128), ≥ 1 at (64, 100, 128, 256), ≥ 0.75 at (1, 50, 10, 20): least 1.200 × at (32, 50, 10, 20)",
        "- missed: geometric mean against torch.nn.LSTM ≥ 1.05: 1.013 ×",
    ]
    for name, ratio in good.items():
        assert not bars.of_gated("lstm", everywhere(9.0, **(good | {name: ratio - 0.01})))[0].met
    assert verdicts(bars.of_gated("gru", everywhere(2.8))) == [True, False]
    assert verdicts(bars.of_gated("gru", everywhere(4.0, _4=1.09))) == [False, True]


def test_bars_of_threads_and_of_float64():
    assert verdicts(bars.of_threads("elman", everywhere(1.2, _3=0.96), everywhere(1.01))) == [True, True]
    assert verdicts(bars.of_threads("elman", everywhere(1.2, _3=0.95), everywhere(2.0, _0=1.0))) == [False, False]
    assert verdicts(bars.of_threads("lstm", everywhere(1.0), everywhere(0.5))) == [True], "torch's two are Elman's bar"
    assert verdicts(bars.of_float64("elman", everywhere(1.0))) == [True]
    assert verdicts(bars.of_float64("elman", everywhere(1.0, _2=0.99))) == [False]
    assert bars.of_float64("lstm", everywhere(0.5)) == []


def test_a_tie_passes_forward_where_torch_is_hardly_above_the_products():
    assert verdicts(bars.of_forward(everywhere(1.01, _4=0.975))) == [True]
    assert verdicts(bars.of_forward(everywhere(1.01, _3=0.975))) == [False]


def test_the_bars_of_unequal_lengths():
    shapes = [cases.SHAPES[1], cases.SHAPES[4]]
    assert bars.of_ragged("GRULayer", dict(zip(shapes, (1.04, 0.64), strict=True)), shapes) == [
        bars.Bar(
            "GRULayer: with lengths at most 1.05 of the whole rows' time", True, "most 1.040 × at (32, 50, 10, 20)"
        ),
        bars.Bar("GRULayer: at most 0.65 of it at H ≥ 128", True, "most 0.640 × at (64, 100, 128, 256)"),
    ]
    judged = bars.of_ragged("it", dict(zip(shapes, (1.06, 0.66), strict=True)), shapes)
    assert [bar[1:] for bar in judged] == [
        (False, "1.060 × at (32, 50, 10, 20)"),
        (False, "0.660 × at (64, 100, 128, 256)"),
    ]


def test_bars_of_a_step_and_of_the_slope():
    assert bars.at_least("fast", {"at T = 50": 3.1, "at T = 400": 2.9}, 3.0) == bars.Bar(
        "fast", False, "3.10 × at T = 50, 2.90 × at T = 400"
    )
    assert [bars.of_slope(value).met for value in (0.94, 0.96, 1.04, 1.06)] == [False, True, True, False]


def test_a_line_has_slope_1_and_a_parabola_2():
    lengths = (100, 1000, 10_000)
    assert slope.slope({T: 3e-6 * T for T in lengths}) == pytest.approx(1)
    assert slope.slope({T: 3e-6 * T**2 for T in lengths}) == pytest.approx(2)


def test_turns_fill_the_time_within_bounds():
    plan = rounds.Plan(seconds=12.0)
    assert [plan.turns_for(seconds) for seconds in (0.001, 0.25, 100.0)] == [rounds.MOST, 16, rounds.FEWEST]
    assert plan._replace(turns=7).turns_for(100.0) == 7


def test_inputs_are_taken_in_turn():
    taken = []
    times = rounds.alternate({"minirnn": taken.append}, rounds.Plan(0.01, runs=2, turns=2))
    assert [len(run) for run in times["minirnn"]] == [2, 2]
    assert abs(taken.count(0) - taken.count(1)) <= 1


# --- equal results first ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case():
    return cases.draw(TINY)


@pytest.fixture(scope="module")
def wanted(case):
    return cases.expected(case)


def tampered(wanted, change, i):
    """Return a contestant that is right but for one result of one input."""

    def run(turn):
        arrays = [array.astype(np.float32) for array in wanted[turn]]
        if turn == 1:
            arrays[i] = change(arrays[i])
        return arrays

    return cases.Contestant(run, lambda arrays: arrays)


@pytest.mark.parametrize(
    ("i", "change", "fault"),
    [
        (0, lambda a: a[:-1], "someone, input 1: outputs has shape (4, 3, 6), not (5, 3, 6)"),
        (2, lambda a: a * 1.01, "someone, input 1: the gradient of h0 differs from the textbook's by 1e-02 of its "),
        (3, np.zeros_like, "someone, input 1: the gradient of W_xh differs from the textbook's by 1e+00 of its "),
        (4, lambda a: a * np.nan, "someone, input 1: the gradient of W_hh differs from the textbook's by nan of its "),
        (5, np.float64, "someone, input 1: the gradient of b_h is float64, not float32"),
    ],
)
def test_a_wrong_contestant_is_not_timed(wanted, i, change, fault):
    cases.check("someone", tampered(wanted, np.copy, i), wanted)
    with pytest.raises(cases.WrongResultError) as caught:
        cases.check("someone", tampered(wanted, change, i), wanted)
    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_minirnn_itself_is_held_against_the_textbook(cell):
    case = cases.draw(TINY, cell)
    wanted, names = cases.expected(case), cases.results_of(cell)
    assert [len(arrays) for arrays in wanted] == [len(names)] * 2
    cases.check("minirnn", contestants.minirnn_layer(case, 1), wanted, names)
    if cell == "elman":
        cases.check("minirnn", inference.minirnn_layer(case, 1), wanted, names[:1])
    states = {"elman": ["h0"], "lstm": ["h0", "c0"], "gru": ["h0"]}[cell]
    assert list(names[2 : -3 - (cell == "gru")]) == [f"the gradient of {state}" for state in states]


def of_layer():
    return [
        pytest.param(cell, peer, id=f"{cell}-{peer.name}", marks=[pytest.mark.peer] * (peer.packages != ("minirnn",)))
        for cell in ("elman", "lstm", "gru")
        for peer in roster.of("layer", cell)
    ]


@pytest.mark.parametrize(("cell", "peer"), of_layer())
@pytest.mark.parametrize("dtype", ["float64", "float32"])  # in this order: the last one is what jax is left at
def test_peers_of_layer_compute_the_same(cell, peer, dtype):
    needs(peer)
    case = cases.draw(TINY, cell, dtype)
    contestant = contestants.MAKE[peer.name](case, 1)
    cases.check(peer.label, contestant, cases.expected(case), cases.results_of(cell), dtype)
    contestant.run(0)


def test_a_layer_with_gates_beside_its_peers(capsys):
    options = parsed("layer --cell gru --peers floor,graph --quick --turns 2 --shape 3,5,4,6")
    found = side_by_side.run(options, print)
    out = capsys.readouterr().out
    assert "\nGRULayer, forward and backward with all gradients, float32, N, T, D, H = 3, 5, 4, 6, results" in out
    assert "- not measured: ≥ 1.1 times as fast as torch.nn.GRU at each: needs all shapes and this peer" in out
    assert (found["cell"], [bar["met"] for bar in found["bars"]]) == ("gru", [None, None])
    assert list(found["shapes"][0]["median seconds a call"]) == ["minirnn", "floor", "graph"]


def test_beside_several_threads_stands_one(capsys):
    options = parsed("layer --peers one-thread --threads 2 --quick --turns 2 --shape 3,5,4,6")
    before = mr.get_num_threads()
    try:
        measured = side_by_side.run(options, print)["shapes"][0]["median seconds a call"]
        options = parsed("layer --peers one-thread,floor --quick --turns 2 --shape 3,5,4,6 --dtype float64")
        alone = side_by_side.run(options, print)
    finally:
        mr.set_num_threads(before)
    out = capsys.readouterr().out
    assert list(measured) == ["minirnn", "one-thread"]
    assert "minirnn, one thread ÷ minirnn" in out
    assert "- not measured: no shape slower than on one thread by more than 5 %: " in out
    assert (alone["dtype"], list(alone["shapes"][0]["median seconds a call"])) == ("float64", ["minirnn", "floor"])
    assert [bar["text"] for bar in alone["bars"]] == ["float64: no shape below torch.nn.RNN"]


@pytest.mark.parametrize("threads", [1, 2])
def test_each_has_its_threads_in_its_turns(threads):
    def run(i):
        seen.add((name_of_turn[-1], mr.get_num_threads()))

    before, seen, name_of_turn = mr.get_num_threads(), set(), []
    try:
        mr.set_num_threads(threads)
        prepare = side_by_side.preparation(threads)
        rounds.alternate(
            dict.fromkeys(["minirnn", "one-thread"], run),
            rounds.Plan(0.01, runs=1, turns=2),
            lambda name: (name_of_turn.append(name), prepare(name)),
        )
    finally:
        mr.set_num_threads(before)
    assert seen == {("minirnn", threads), ("one-thread", 1)}


# --- one step at a time, and the door ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", list(roster.CELLS))
@pytest.mark.parametrize("peer", of_peers("stream"))
def test_peers_of_stream_compute_the_same(cell, peer):
    needs(peer)
    stream.ready(TINY, cell, [peer.name], 1)[peer.name].run(0)


def test_one_step_at_a_time_of_every_layer(capsys, monkeypatch):
    monkeypatch.setattr(stream, "SHAPES", [TINY])
    options = parsed("stream --quick --turns 2")
    options.peers = []
    found = stream.run(options, print)
    out = capsys.readouterr().out
    for layer in ("RecurrentLayer", "LSTMLayer", "GRULayer"):
        assert f"\n{layer}, one step at a time, nothing recorded, float32, outputs equal:\n" in out
    assert "- not measured: one step of LSTMLayer, no graph, as fast as torch.nn.LSTMCell's at N = 1 and 32: " in out
    assert [entry["cell"] for entry in found["measured"]] == list(roster.CELLS)


def test_the_door_of_every_layer(capsys):
    found = door.run(parsed("door --quick --turns 2"), print)
    out = capsys.readouterr().out
    assert all(f"\n| {layer} " in out for layer in ("RecurrentLayer", "LSTMLayer", "GRULayer"))
    assert [bar["text"] for bar in found["bars"]] == [
        "door and tape at most 55 µs where an empty Python call takes 0.1 µs"
    ]


def test_what_stands_around_the_kernels_at_another_pace():
    measured = rounds.Measured(
        [{"minirnn": [[150e-6, 150e-6]], "kernels": [[100e-6, 100e-6]], "empty calls": [[50e-6, 50e-6]]}]
    )
    here, paced = door.around(measured)
    assert here == pytest.approx(50)
    assert paced == pytest.approx(100), "an empty call takes 0.05 µs here"


# --- unequal lengths --------------------------------------------------------------------------------------------------

RAGGED = cases.Shape(5, 7, 4, 6)


@pytest.mark.parametrize("cell", list(roster.CELLS))
def test_rows_of_unequal_lengths_are_what_they_are_alone(cell):
    case, draws = ragged.prepared(RAGGED, cell)
    assert len({tuple(lengths) for lengths in draws}) == ragged.DRAWS
    assert all(lengths.min() >= 1 and lengths.max() <= RAGGED.T for lengths in draws)
    assert np.mean(draws) == (RAGGED.T + 1) / 2
    runs = ragged.ready(case, draws, ["minirnn"], 1)
    assert list(runs) == ["minirnn, padded", "minirnn, with lengths"]
    truth = ragged.rows_alone(case, [2, 7, 3, 1, 1])
    assert [len(array) for array in truth[:2]] == [RAGGED.T] * 2
    assert not truth[0][2:, 0].any()
    assert truth[0][:, 1].all()
    assert not truth[1][3:, 2].any()


@pytest.mark.peer
@pytest.mark.parametrize("cell", list(roster.CELLS))
def test_torch_packs_to_the_same(cell):
    needs(roster.TORCH)
    case, draws = ragged.prepared(RAGGED, cell)
    for run in ragged.ready(case, draws, ["torch"], 1).values():
        run(0)


@pytest.mark.parametrize("change", [lambda lengths: lengths % RAGGED.T + 1, lambda lengths: None])
def test_rows_that_are_not_what_they_are_alone_are_not_timed(monkeypatch, change):
    case, draws = ragged.prepared(RAGGED, "gru")
    monkeypatch.setattr(ragged, "in_its_own_kind", lambda name, lengths: change(lengths))
    with pytest.raises(
        cases.WrongResultError, match=r"^minirnn, with lengths: outputs differs from the textbook's by "
    ):
        ragged.ready(case, draws, ["minirnn"], 1)


def test_the_table_of_unequal_lengths():
    times = {"minirnn, padded": 4e-3, "minirnn, with lengths": 2e-3, "torch, padded": 5e-3, "torch, with lengths": 8e-3}
    found = ragged.Found(made_up(**{key: ragged.DRAWS * seconds for key, seconds in times.items()}), 0.512)
    assert ragged.table({TINY: found}, ["minirnn", "torch"], "lstm") == (
        "| N, T, D, H | Σ lengths ÷ N·T | minirnn, padded, ms | with lengths, ms | ratio |   quartiles | "
        "torch.nn.LSTM, padded, ms | packed, ms | ratio | packed ÷ minirnn with lengths |\n"
        "| ---------- | --------------: | ------------------: | ---------------: | ----: | ----------: | "
        "------------------------: | ---------: | ----: | ----------------------------: |\n"
        "| 3, 5, 4, 6 |            0.51 |                4.00 |             2.00 |  0.50 | 0.50 … 0.50 | "
        "                     5.00 |       8.00 |  1.60 |                          4.00 |"
    )
    assert ragged.table({TINY: found}, ["minirnn"], "lstm").splitlines()[0].endswith("| ratio |   quartiles |")


def test_unequal_lengths_of_every_layer(capsys, monkeypatch):
    monkeypatch.setattr(ragged, "SHAPES", [RAGGED])
    options = parsed("ragged --quick --turns 2")
    options.peers = []
    found = ragged.run(options, print)
    out = capsys.readouterr().out
    for layer in ("RecurrentLayer", "LSTMLayer", "GRULayer"):
        assert f"\n{layer}, forward and backward with all gradients, float32, results equal:\n" in out
        assert f": {layer}: with lengths at most 1.05 of the whole rows' time: " in out
    assert [entry["cell"] for entry in found["measured"]] == list(roster.CELLS)
    assert all(0.2 < entry["sum of lengths / (N T)"] < 0.9 for entry in found["measured"])
    assert len(found["bars"]) == 6


# --- a look inside ----------------------------------------------------------------------------------------------------


def test_a_trace_with_other_gradients_is_not_timed():
    layer, xs = mr.GRULayer(4, 6, rng=0), [np.ones((5, 3, 4), np.float32)]
    found = mr.bptt.trace(layer, xs[0], trace.last)
    found.gradients["W_hh"] = found.gradients["W_hh"] * 1.001
    with pytest.raises(cases.WrongResultError, match=r"^trace: the gradient of W_hh differs from the layer's by \d"):
        trace.check(layer, xs, [found])


def test_a_look_inside_of_every_layer(capsys, monkeypatch):
    monkeypatch.setattr(trace, "SHAPES", [TINY])
    found = trace.run(parsed("trace --quick --turns 2"), print)
    out = capsys.readouterr().out
    for layer in ("RecurrentLayer", "LSTMLayer", "GRULayer"):
        assert f"\n{layer}, float32, a loss of the last output, gradients equal:\n" in out
        assert f": {layer}: trace at most 3 × forward and backward: " in out
    assert [entry["cell"] for entry in found["measured"]] == list(roster.CELLS)


@pytest.mark.parametrize("peer", of_peers("forward"))
def test_peers_of_forward_compute_the_same(peer, case, wanted):
    needs(peer)
    contestant = inference.MAKE[peer.name](case, 1)
    cases.check(peer.label, contestant, wanted, cases.results_of()[:1])
    contestant.run(0)


@pytest.mark.parametrize("peer", of_peers("step"))
def test_peers_of_step_learn_the_same(peer):
    needs(peer)
    labels = tables.labels_of([peer])
    small = [step.elman(10), step.lstm(3, 5, 4, 6), step.text("elman", 3, 5, 4, 6), step.text("lstm", 3, 5, 4, 6)]
    for trained in small:
        for update in step.ready(trained, labels, 1).values():
            assert 0 < update(0) < 10


@pytest.mark.parametrize("peer", of_peers("tape"))
def test_peers_of_tape_compute_the_same(peer):
    needs(peer)
    tape.ready(peer.name, peer.label, tape.draw(1))


def test_a_learner_that_goes_elsewhere_is_not_timed():
    start = adding.start(np.random.default_rng(0))
    step.check("someone", list(start), list(start))
    with raises(cases.WrongResultError, "someone: after 3 updates b_h differs from minirnn's by 1e-03"):
        step.check("someone", list(start._replace(b_h=start.b_h + np.float32(1e-3))), list(start))


def test_slow_contestants_are_left_out(case, monkeypatch):
    monkeypatch.setattr(side_by_side, "TOO_LONG", 0.0)
    peers = (roster.FLOOR, roster.GRAPH)
    ready, left_out = side_by_side.prepare(case, peers, contestants.MAKE, 1, gradients=True)
    assert list(ready) == ["minirnn", "floor"]
    assert left_out["graph"].endswith(" s a call")


# --- the adding problem -----------------------------------------------------------------------------------------------


def test_the_copy_of_the_adding_problem_draws_the_same():
    task = mr.tasks.AddingTask(T=11)
    for got, want in zip(adding.batch(11, 5, np.random.default_rng(3)), task.batch(5, rng=3), strict=True):
        np.testing.assert_array_equal(got, want)
    for got, want in zip(adding.held_out(11, 20, 4), task.evaluation_batch(20, 4), strict=True):
        np.testing.assert_array_equal(got, want)


def test_cold_stops_when_held_out_data_say_so():
    updates, mse = cold_adding.learn("minirnn", 2, 0, 1)
    assert updates % cold_adding.WINDOW == 0
    assert mse < cold_adding.SOLVED


def test_every_peer_has_a_contestant():
    makers = {"layer": contestants.MAKE, "forward": inference.MAKE, "step": learners.MAKE, "tape": tape.LOOPS}
    makers |= {"stream": stream.MAKE, "ragged": contestants.MAKE}
    for command, peers in roster.PEERS.items():
        made = makers.get(command, learners.MAKE if command == "cold" else contestants.MAKE)
        assert {"minirnn", *(peer.name for peer in peers)} <= set(made)
