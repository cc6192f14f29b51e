"""``proj_size`` and ``peepholes`` of an LSTM: against torch, a loop by hand, and central differences."""

import copy

import numpy as np
import pytest
from error_texts import raises
from notes import noted
from numpy.testing import assert_allclose, assert_array_equal
from pairwise import pairwise
from recurrent_cases import flat, turned

import minirnn as mr
from minirnn.counting import lstm
from minirnn.interop import from_torch, load_safetensors, save_safetensors, to_torch

T, N, D, H, P = 6, 3, 2, 5, 4
KINDS = {"proj": {"proj_size": P}, "peep": {"peepholes": True}, "both": {"proj_size": P, "peepholes": True}}
LENGTHS, RESET = np.array([2, 6, 4]), np.arange(T * N).reshape(T, N) % 5 == 4
GRID = {
    "kind": list(KINDS), "backend": ["fused", "graph"], "reverse": [False, True], "batch_first": [False, True],
    "lengths": [None, LENGTHS], "reset": [None, RESET], "learn": [False, True], "dropout": [0.0, 0.4],
    "zoneout": [0.0, 0.3], "bias": [True, False],
}  # fmt: skip
POINTS = pairwise(GRID)


def layer_of(point, sizes=(D, H), seed=1, **settings):
    """A layer all of whose Parameters are drawn, float64."""
    layer = mr.LSTMLayer(
        *sizes, **KINDS[point["kind"]] | settings, backend=point["backend"], reverse=point["reverse"],
        batch_first=point["batch_first"], learn_initial_state=point["learn"], bias=point["bias"],
        forget_bias=1.0, recurrent_dropout=point["dropout"], zoneout=point["zoneout"], dtype=np.float64, rng=7,
    )  # fmt: skip
    drawn = np.random.default_rng(seed)
    for _, p in layer.named_parameters():
        p.data = 0.7 * drawn.standard_normal(p.shape)
    return layer


def start_of(layer, learn, rows=N):
    drawn = np.random.default_rng(2)
    given = [drawn.standard_normal((rows, size)) for size in (layer.output_size, layer.hidden_size)]
    return None if learn else given


def by_hand(layer, x, start, lengths, reset, mask, zones):
    """Unroll row by row from the equations of Gers & Schmidhuber 2000 and Sak et al. 2014; every h, c and the last."""
    a = {name: p.data for name, p in layer.named_parameters()}
    H, P = layer.hidden_size, layer.output_size

    def sigma(v):
        return 1 / (1 + np.exp(-v))

    fresh = [a.get("h_0", np.zeros(P)), a.get("c_0", np.zeros(H))]
    w_ci, w_cf, w_co = np.split(a.get("w_c", np.zeros(3 * H)), 3)
    every, final = [np.zeros((len(x), N, P)), np.zeros((len(x), N, H))], [np.zeros((N, P)), np.zeros((N, H))]
    for n in range(N):
        h, c = fresh if start is None else (s[n] for s in start)
        steps = range(len(x) if lengths is None else lengths[n])
        for t in reversed(steps) if layer.reverse else steps:
            edge = t + 1 if layer.reverse else t  # the step at which the sequence that is left, or entered, begins
            if reset is not None and edge < len(steps) and reset[edge, n]:
                h, c = fresh
            z = x[t, n] @ a["W_xh"] + (h * mask[n]) @ a["W_hh"] + a.get("b_h", 0)
            i, f, g, o = np.split(z, 4)
            new_c = sigma(f + w_cf * c) * c + sigma(i + w_ci * c) * np.tanh(g)
            new_h = sigma(o + w_co * new_c) * np.tanh(new_c)
            new_h = new_h @ a["W_hr"] if "W_hr" in a else new_h
            stay_h, stay_c = np.split(zones[t, n], [P])
            h, c = stay_h * h + (1 - stay_h) * new_h, stay_c * c + (1 - stay_c) * new_c
            every[0][t, n], every[1][t, n] = h, c
        final[0][n], final[1][n] = h, c
    return every, final


@pytest.mark.parametrize("training", [True, False])
def test_as_by_hand_whatever_the_settings(training):
    x = np.random.default_rng(0).standard_normal((T, N, D))
    for point in POINTS:
        with noted(str(point)):
            layer, lengths, reset = layer_of(point).train(training), point["lengths"], point["reset"]
            start, W = start_of(layer, point["learn"]), layer.output_size
            before, drawn = layer._rng.bit_generator.state, copy.deepcopy(layer._rng)
            mask, zones = np.ones((N, W)), np.full((T, N, W + H), point["zoneout"])
            if training and (p := point["dropout"]):
                mask = (drawn.random((N, W)) >= p) / (1 - p)
            if training and (p := point["zoneout"]):
                zones = (drawn.random((T, N, W + H)) < p).astype(float)
            every, final = by_hand(layer, x, start, lengths, reset, mask, zones)
            given = turned(x, layer), start, lengths
            turned_reset = None if reset is None else turned(reset, layer)
            outputs, last = layer(*given, reset=turned_reset)
            layer._rng.bit_generator.state = before
            told, again = layer(*given, reset=turned_reset, all_states=True)
            for got, exact in zip(
                [outputs, *told, *last, *again],
                [turned(a, layer) for a in (every[0], *every)] + final * 2, strict=True,
            ):  # fmt: skip
                assert_allclose(got.numpy(), exact, rtol=1e-12, atol=1e-13)


def test_gradients_by_central_differences_where_all_sizes_differ():
    T, N, D, H, P = 5, 6, 2, 4, 3
    rng = np.random.default_rng(0)
    lengths, reset = np.array([2, 5, 3, 1, 5, 4]), np.arange(T * N).reshape(T, N) % 7 == 6
    of_no_matter = {"backend": ["fused"], "batch_first": [False]}
    for point in pairwise(GRID | {"lengths": [None, lengths], "reset": [None, reset]} | of_no_matter):
        with noted(str(point)):
            own = {"proj_size": P} if "proj_size" in KINDS[point["kind"]] else {}
            layer = layer_of(point, (D, H), **own)
            x = mr.Tensor(turned(rng.standard_normal((T, N, D)), layer), requires_grad=True)
            start = start_of(layer, point["learn"], N)
            state = None if start is None else [mr.Tensor(s, requires_grad=True) for s in start]
            before, reset = layer._rng.bit_generator.state, point["reset"]

            def run(*_, layer=layer, x=x, state=state, before=before, reset=reset, lengths=point["lengths"]):
                layer._rng.bit_generator.state = before
                turn = None if reset is None else turned(reset, layer)
                outputs, final = layer(x, state, lengths, reset=turn)
                return outputs, *final

            mr.gradcheck(run, [x, *(state or []), *layer.parameters()])


def test_steps_are_the_whole_and_anomalies_are_found():
    x = np.random.default_rng(0).standard_normal((T, N, D))
    for kind in KINDS.values():
        layer, state = mr.LSTMLayer(D, H, dtype=np.float64, rng=0, **kind), None
        outputs, final = layer(x)
        for t in range(T):
            state = layer.step(x[t], state)
            assert_allclose(state.h.numpy(), outputs.numpy()[t], rtol=1e-13)
        with mr.detect_anomaly():
            assert_array_equal(layer(x).final_state.c.numpy(), final.c.numpy())
            for call in (lambda given, layer=layer: layer(given), lambda given, layer=layer: layer.step(given[0])):
                with pytest.raises(mr.AnomalyError):
                    call(np.full_like(x, np.nan))


def test_peepholes_of_zero_are_none_and_both_start_from_the_same_bits():
    x = np.random.default_rng(0).standard_normal((T, N, D)).astype(np.float32)
    plain, with_them = mr.LSTMLayer(D, H, rng=0, backend="graph"), mr.LSTMLayer(D, H, rng=0, peepholes=True)
    assert not with_them.w_c.data.any()
    assert_array_equal(with_them(x).outputs.numpy(), plain(x).outputs.numpy())


# --- torch ------------------------------------------------------------------------------------------------------------


@pytest.mark.peer
def test_projection_as_torch_has_it(torch):
    worst, rng = 0.0, np.random.default_rng(0)
    grid = {
        "layers": [1, 2], "both": [False, True], "bias": [True, False], "batch_first": [False, True],
        "lengths": [None, LENGTHS], "backend": ["fused", "graph"],
    }  # fmt: skip
    for point in pairwise(grid):
        with noted(str(point)):
            L, both, lengths, first = (point[k] for k in ("layers", "both", "lengths", "batch_first"))
            theirs = torch.nn.LSTM(
                D, H, L, proj_size=P, bidirectional=both, bias=point["bias"], batch_first=first, dtype=torch.float64
            )
            model = from_torch(theirs)
            for module in holding(model):
                module.backend = point["backend"]
            assert model.count_params() == sum(
                module.count().total for module in holding(model)
            )  # and torch's by the second bias:
            of_torch = sum(module.count().elsewhere["torch"] for module in holding(model))
            assert sum(p.numel() for p in theirs.parameters()) == of_torch
            x, ways = rng.standard_normal((T, N, D)), 1 + both
            v = torch.from_numpy(rng.standard_normal((T, N, P * ways)))
            h, c, u_h, u_c = (torch.from_numpy(rng.standard_normal((L * ways, N, k))) for k in (P, H, P, H))
            tx, th, tc = (a.clone().requires_grad_() for a in (torch.from_numpy(x), h, c))
            read = tx.transpose(0, 1) if first else tx
            if lengths is not None:
                read = torch.nn.utils.rnn.pack_padded_sequence(read, lengths, first, enforce_sorted=False)
            y, (h_n, c_n) = theirs(read, (th, tc))
            if lengths is not None:
                y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, first, total_length=T)
            y = y.transpose(0, 1) if first else y
            ((y * v).sum() + (h_n * u_h).sum() + (c_n * u_c).sum()).backward()
            mx = mr.Tensor(x, requires_grad=True)
            leaves = [(mr.Tensor(a.numpy(), True), mr.Tensor(b.numpy(), True)) for a, b in zip(h, c, strict=True)]
            state = [tuple(leaves[i : i + 2]) for i in range(0, len(leaves), 2)] if both else leaves
            outputs, final = model(mx.swapaxes(0, 1) if first else mx, state[0] if L == 1 else state, lengths)
            outputs, ends = outputs.swapaxes(0, 1) if first else outputs, flat(final)
            loss = (outputs * v.numpy()).sum()
            for i, end in enumerate(ends):
                loss = loss + (end * (u_h, u_c)[i % 2][i // 2].numpy()).sum()
            loss.backward()
            grads = copy.deepcopy(model)
            for p, q in zip(grads.parameters(), model.parameters(), strict=True):
                p.data = q.grad
            mine = {name: a for name, a in to_torch(grads).items() if not name.startswith("bias_hh")}
            own = dict(theirs.named_parameters())
            assert set(own) == set(to_torch(model))
            pairs = [(outputs.numpy(), y), (mx.grad, tx.grad)]
            pairs += [(end.numpy(), (h_n, c_n)[i % 2][i // 2]) for i, end in enumerate(ends)]
            pairs += [(s.grad, of[k]) for k, pair in enumerate(leaves) for s, of in zip(pair, (th.grad, tc.grad))]  # noqa: B905
            pairs += [(a, own[name].grad) for name, a in mine.items()]
            for a, b in pairs:
                assert a.shape == tuple(b.shape)
                worst = max(worst, np.abs(a - b.detach().numpy()).max())
            back = torch.nn.LSTM(
                D, H, L, proj_size=P, bidirectional=both, bias=point["bias"], batch_first=first, dtype=torch.float64
            )
            back.load_state_dict({name: torch.from_numpy(a) for name, a in to_torch(model).items()})
    assert worst < 1e-12


def holding(model):
    """The layers of a model."""
    return [model] if isinstance(model, mr.LSTMLayer) else [m for _, child in model.children() for m in holding(child)]


# --- what else a layer does -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_travel_compose_and_are_counted(kind, tmp_path):
    x = np.random.default_rng(0).standard_normal((T, N, D)).astype(np.float32)
    own = KINDS[kind]
    layer = mr.LSTMLayer(D, H, rng=0, learn_initial_state=True, **own)
    W = layer.output_size
    assert own.get("proj_size", H) == W
    outputs, (h, c) = layer(x)
    assert (outputs.shape, h.shape, c.shape) == ((T, N, W), (N, W), (N, H))
    copied = mr.LSTMLayer(D, H, rng=1, learn_initial_state=True, **own).load(layer.save(tmp_path / "layer.npz"))
    plain = mr.LSTMLayer(D, H, rng=0, **own)
    for one, other in ((copied, layer), (copy.deepcopy(layer), layer)):
        assert_array_equal(one(x).outputs.numpy(), other(x).outputs.numpy())
    assert ("proj_size=4" in repr(layer), "peepholes=True" in repr(layer)) == (W == P, "peepholes" in own)
    exact = lstm(D, H, proj_size=own.get("proj_size"), peepholes="peepholes" in own)
    assert layer.count() == exact
    assert exact.shapes == {name: p.shape for name, p in plain.named_parameters()}
    assert exact.total == plain.count_params() == 4 * H * (D + W + 1) + 3 * H * layer.peepholes + H * P * (W == P)
    assert [term.shape for term in layer.counted()] == [p.shape for p in layer.parameters()]
    assert f"{'P' if W == P else 'H'} = {W}, going forward" in layer.to_svg()
    both = mr.Bidirectional(
        mr.LSTMLayer(D, H, rng=0, **own), mr.LSTMLayer(D, H, reverse=True, rng=1, **own), merge="sum"
    )
    deep = mr.Stacked([both, mr.LSTMLayer(W, H, rng=2, **own)], dropout=0.1, rng=0)
    model = mr.SequenceModel(deep, mr.Linear(W, 3, rng=0), "last")
    assert model(x, lengths=LENGTHS).predictions.shape == (N, 3)
    model(x).predictions.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_what_is_said_of_them():
    proj, peep, both = (mr.LSTMLayer(D, H, **own) for own in KINDS.values())
    assert both._step()[0] == [
        "[z_{i} z_{f} z_{g} z_{o}] = x_{t} W_{xh} + h_{t−1} W_{hh} + b_{h}",
        "g = tanh(z_{g})",
        "i = σ(z_{i} + w_{ci} ⊙ c_{t−1})",
        "f = σ(z_{f} + w_{cf} ⊙ c_{t−1})",
        "c_{t} = f ⊙ c_{t−1} + i ⊙ g",
        "o = σ(z_{o} + w_{co} ⊙ c_{t})",
        "h_{t} = (o ⊙ tanh(c_{t})) W_{hr}",
    ]
    assert [[line.split(": ")[1] for line in lstm.count().reconciliation()] for lstm in (proj, peep, both)] == [
        ["180 = 160 + 20", "there is none with proj_size.", "there is none with proj_size."],
        ["there is none with peepholes.", "there is none with peepholes.", "195 = 175 + 20"],
        [
            "there is none with peepholes.",
            "there is none with proj_size and peepholes.",
            "there is none with proj_size.",
        ],
    ]
    assert lstm(D, H, 7, proj_size=P).shapes["W_hy"] == (P, 7)


x = np.zeros((T, N, D))
REFUSED = [
    (lambda: mr.LSTMLayer(D, H, proj_size=0), ValueError, "LSTMLayer: proj_size must be an int ≥ 1, got 0: leave it "
     "out for an output as wide as C_t"),
    (lambda: mr.LSTMLayer(D, H, proj_size=H), ValueError, "LSTMLayer: proj_size must be below hidden_size=5, got 5: it "
     "makes the output narrower than the cell state; leave it out for an output as wide"),
    (lambda: mr.LSTMLayer(D, H, peepholes=1), TypeError, "LSTMLayer: peepholes must be True or False, got 1 (int)"),
    (lambda: mr.LSTMLayer(D, H, peepholes=True, remat=True), ValueError, "LSTMLayer: remat keeps fewer states of a "
     "kernel, which a layer with peepholes has not: leave it out"),
    (lambda: mr.RecurrentLayer(D, H, cell=mr.cells.PeepholeLSTM()), TypeError, "RecurrentLayer: PeepholeLSTM reads "
     "weights that this layer has not: use LSTMLayer(…, peepholes=True)"),
    (lambda: mr.LSTMLayer(D, H, proj_size=P)(x, np.zeros((N, P))), TypeError, "LSTMLayer: initial_state must be a pair "
     "(h, c), (N=3, P=4) and (N=3, H=5), got an array of shape (3, 4) and dtype float64: pass what the layer returned "
     "as final_state, or None"),
    (lambda: mr.LSTMLayer(D, H, proj_size=P)(x, [np.zeros((N, H))] * 2), ValueError, "LSTMLayer: initial_state[0] must "
     "have shape (N=3, P=4), got (3, 5): one state for each row of x"),
    (lambda: mr.bptt.trace(mr.LSTMLayer(D, H, proj_size=P), x, lambda y: y.sum()), ValueError, "trace: a layer with "
     "proj_size projects what its cell makes, which is not looked into: make it without"),
    (lambda: mr.bptt.trace(mr.LSTMLayer(D, H, peepholes=True), x, lambda y: y.sum()), ValueError, "trace: a layer with "
     "peepholes has gates that read the cell state, which is not looked into: make it without"),
    (lambda: to_torch(mr.LSTMLayer(D, H, peepholes=True)), ValueError, "to_torch: LSTMLayer has w_c, which has no "
     "equal here"),
]  # fmt: skip


def test_what_is_refused():
    for call, kind, message in REFUSED:
        with noted(message), raises(kind, message):
            call()


@pytest.mark.peer
@pytest.mark.parametrize("own", [{"proj_size": P}, {"peepholes": True}, {"proj_size": 1, "peepholes": True}])
def test_safetensors_hold_both(tmp_path, own):
    pytest.importorskip("safetensors")
    layer = mr.LSTMLayer(D, 9, rng=0, **own)  # with P = 1 fewer numbers than its other sizes alone would ask for
    read = load_safetensors(save_safetensors(layer, tmp_path / "layer.safetensors"))
    assert repr(read) == repr(layer)
    assert_array_equal(read(np.ones((T, N, D))).outputs.numpy(), layer(np.ones((T, N, D))).outputs.numpy())


@pytest.mark.peer
def test_peepholes_to_onnx_and_back():
    runtime = pytest.importorskip("onnxruntime")
    with raises(ValueError, "to_onnx: LSTMLayer has W_hr, which has no equal here"):
        mr.interop.to_onnx(mr.LSTMLayer(D, H, proj_size=P))
    from minirnn.interop import from_onnx, to_onnx

    x = np.random.default_rng(0).standard_normal((T, N, D)).astype(np.float32)
    layer = mr.LSTMLayer(D, H, peepholes=True, rng=0)
    layer.w_c.data = np.random.default_rng(1).standard_normal(3 * H).astype(np.float32)
    proto = to_onnx(layer, lengths=False, initial_state=False)
    (y, h, c) = runtime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    outputs, final = layer(x)
    again = from_onnx(proto)
    assert_array_equal(again(x).outputs.numpy(), outputs.numpy())
    for got, exact in ((y, outputs), (h, final.h), (c, final.c)):
        assert_allclose(got, exact.numpy(), atol=1e-6)
