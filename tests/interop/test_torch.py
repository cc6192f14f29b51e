"""Weights in and out of torch: outputs, final states and all gradients agree, in float64 and float32."""

import functools
import itertools

import numpy as np
import pytest
from error_texts import raises
from interop_cases import grads_as, holds
from notes import noted

import minirnn as mr
from minirnn.interop import InteropError, from_torch, to_torch

T, N, D, H = 6, 3, 4, 5
LENGTHS = [4, 6, 1]
KINDS = ["tanh", "relu", "lstm", "gru"]
quiet = pytest.mark.filterwarnings("ignore:to_torch. not in the arrays")
GRID = list(itertools.product([1, 2, 3], [False, True], [True, False], [None, LENGTHS]))


def module_of(torch, kind, layers=1, both=False, bias=True, dtype="float64", **options):
    make = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(kind, torch.nn.RNN)
    options |= {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
    torch.manual_seed(layers)
    return make(D, H, layers, bidirectional=both, bias=bias, dtype=getattr(torch, dtype), **options)


def states(kind, layers, both, dtype, rng):
    """A state as torch has it, (layers · directions, N, H), and as minirnn has it."""
    each = [rng.standard_normal((layers * (1 + both), N, H)).astype(dtype) for _ in range(1 + (kind == "lstm"))]
    parts = [tuple(e[i] for e in each) if kind == "lstm" else each[0][i] for i in range(len(each[0]))]
    levels = [tuple(parts[2 * k : 2 * k + 2]) if both else parts[k] for k in range(layers)]
    return each, levels if layers > 1 else levels[0]


@quiet
@pytest.mark.peer
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_torch_does(kind, dtype, torch):
    worst, bar = 0.0, {"float64": 1e-14, "float32": 1e-6}[dtype]
    for layers, both, bias, lengths in GRID:
        with noted(f"{layers} layers, both={both}, bias={bias}, lengths={lengths}"):
            module, rng = module_of(torch, kind, layers, both, bias, dtype), np.random.default_rng(layers)
            model = from_torch(module.state_dict(), activation=kind if kind == "relu" else "tanh")
            x = rng.standard_normal((T, N, D)).astype(dtype)
            v = rng.standard_normal((T, N, H * (1 + both))).astype(dtype)
            theirs, ours = states(kind, layers, both, dtype, rng)
            outputs, final = model(tx := mr.Tensor(x, requires_grad=True), ours, lengths)
            ((outputs * v).sum() + sum(f.sum() for f in holds(final))).backward()
            px = torch.from_numpy(x).requires_grad_()
            given = (
                px if lengths is None else torch.nn.utils.rnn.pack_padded_sequence(px, lengths, enforce_sorted=False)
            )
            hx = tuple(map(torch.from_numpy, theirs)) if kind == "lstm" else torch.from_numpy(theirs[0])
            y, end = module(given, hx)
            if lengths is not None:
                y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=T)
            ends = end if kind == "lstm" else (end,)
            ((y * torch.from_numpy(v)).sum() + sum(e.sum() for e in ends)).backward()
            found = [outputs.numpy(), tx.grad, *(f.numpy() for f in holds(final))]
            exact = [y, px.grad, *(e[i] for i in range(len(ends[0])) for e in ends)]
            mine, own = grads_as(to_torch, model), dict(module.named_parameters())
            assert mine.keys() == own.keys()
            for name in mine:
                if name.startswith("bias_hh"):  # they sum to the same pre-activation
                    n = 2 * H if kind == "gru" else 4 * H
                    mine[name][:n] = own[name].grad[:n]
            pairs = list(zip([*found, *mine.values()], [*exact, *(p.grad for p in own.values())], strict=True))
            for a, b in pairs:
                b = b.detach().numpy()
                worst = max(worst, np.abs(a - b).max() / max(1, np.abs(b).max()))
            back = module_of(torch, kind, layers, both, bias, dtype)
            back.load_state_dict({name: torch.from_numpy(a) for name, a in to_torch(model).items()})
            np.testing.assert_allclose(back(px, hx)[0].detach(), module(px, hx)[0].detach(), atol=bar, rtol=0)
    assert worst < bar


@pytest.mark.peer
def test_what_a_module_holds_beside_its_arrays_is_told(torch):
    class Model(torch.nn.Module):
        def __init__(self, before=False, start=0.0):
            super().__init__()
            self.words = torch.nn.Linear(7, H, bias=False) if before else torch.nn.Embedding(7, H, padding_idx=2)
            self.drop, self.phi, self.rnn = torch.nn.Dropout(0.5), torch.nn.ReLU(), torch.nn.GRU(H, H)
            self.out = torch.nn.Linear(H, 7)
            self.out.weight = self.words.weight if not before else self.out.weight
            if not before:
                self.words.weight.data[2] = start

    model = from_torch(Model())
    assert model.embedding.padding_idx == 2
    assert model.report.left_out == [
        "drop (Dropout), which is for training only",
        "phi (ReLU), which holds no arrays and is not called here",
    ]
    assert "out.weight and words.weight are one array there, and two here" in model.report.assumed
    kept = from_torch(Model(start=1.0))
    assert kept.embedding.padding_idx is None
    assert kept.report.left_out[0] == "padding_idx=2 of words, whose vector is not 0"
    with pytest.raises(InteropError, match=r"^from_torch: words stands before rnn, which could read what it gives"):
        from_torch(Model(before=True), prefix="")
    with pytest.raises(InteropError, match=r"^from_torch: it holds 'model', .* of these: is the state dict its 'mo"):
        from_torch({"model": Model().state_dict(), "epoch": 3})
    with pytest.warns(UserWarning, match=r"^to_torch: not in the arrays, tell torch: nonlinearity='relu'$"):
        to_torch(mr.RecurrentLayer(2, 3, activation="relu"))


def chain(F, D, H, P=None, bias=True):
    """Make arrays by torch's names, in its order, of a Linear F → D, a GRU D → H, and a Linear H → P."""
    arrays = {f"rnn.{name}": array for name, array in to_torch(mr.GRULayer(D, H, rng=0)).items()}
    ones = functools.partial(np.ones, dtype=np.float32)
    before = {"before.weight": ones((D, F))} | ({"before.bias": ones(D)} if bias else {})
    after = {"out.weight": ones((P, H)), "out.bias": ones(P)} if P else {}
    return before | arrays | after


STANDS = (
    "from_torch: before stands before rnn, which could read what it gives, and minirnn has no Linear there: say by "
)
STANDS += "prefix= which part to read, or, if it is the head all the same, on which steps by readout="
NEITHER = "from_torch: before is neither an embedding before rnn nor a head after it, or a second one: say by prefix= "
EITHER = (
    "from_torch: before.weight may be an Embedding, or a Linear without bias before rnn, which minirnn has not: give "
)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((4, 3, 4), STANDS),  # as wide as a head would be
        ((4, 3, 4, 2), STANDS),
        ((4, 3, 4, None, False), STANDS),
        ((4, 4, 4, 2, False), STANDS),
        ((5, 3, 4, 2), NEITHER + "which part to read"),
        ((3, 3, 4, 2, False), EITHER + "the module, or say by prefix= which part to read"),
    ],
)
def test_a_linear_before_the_recurrent_part_is_refused_by_name_from_arrays_too(sizes, message):
    with raises(InteropError, message):
        from_torch(chain(*sizes))


def test_a_head_that_could_stand_before_is_one_where_it_stands_behind_or_the_caller_says_so():
    arrays = chain(4, 3, 4)  # a model that gives what it reads
    own = mr.SequenceModel(mr.GRULayer(3, 4), mr.Linear(4, 3), embedding=mr.Embedding(3, 3))
    ordered = from_torch(dict(sorted(to_torch(own).items())))  # as safetensors has them: embedding, head, recurrent
    assert (ordered.embedding.num_embeddings, ordered.head.out_features) == (3, 3)
    with raises(InteropError, STANDS.replace("before ", "embedding ", 1)):  # a name that says something else
        from_torch({name.replace("before", "embedding"): array for name, array in arrays.items()})
    behind = dict(sorted(arrays.items(), reverse=True))
    assert from_torch(behind).report.assumed == ["rnn → before, the head on all: a module's forward is not read"]
    said = from_torch(arrays, readout="last")
    assert said.report.assumed == ["rnn → before, the head on last: a module's forward is not read"]
    with raises(
        InteropError, EITHER + "the module, or say by prefix= which part to read"
    ):  # of which that says nothing
        from_torch(chain(3, 3, 4, 2, False), readout="last")
    assert (
        from_torch(chain(3, 7, 6, 2, False) | {"before.weight": np.ones((5, 7), np.float32)}).embedding.num_embeddings
        == 5
    )


@quiet
@pytest.mark.peer
def test_a_module_says_what_its_arrays_do_not(torch):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(7, D)
            self.rnn = torch.nn.RNN(D, H, 2, nonlinearity="relu", batch_first=True, dropout=0.5)
            self.out = torch.nn.Linear(H, 2)

        def forward(self, ids):
            return self.out(self.rnn(self.words(ids))[0])

    theirs, ids = Model().eval(), np.random.default_rng(0).integers(0, 7, (N, T))
    model = from_torch(theirs)
    np.testing.assert_allclose(model(ids).predictions.numpy(), theirs(torch.from_numpy(ids)).detach(), atol=1e-6)
    assert model.recurrent.layers[1].activation.name == "relu"
    assert model.report.mapped["head.weight"] == "out.weight transposed"
    assert model.report.left_out == ["dropout=0.5 between the layers, which is for training only"]
    assert model.report.assumed == ["words → rnn → out, the head on all: a module's forward is not read"]
    alone = from_torch(theirs.state_dict(), activation="relu", prefix="rnn.", batch_first=True)
    assert repr(alone) == repr(model.recurrent)
    assert alone.report.left_out[0] == "words.weight, which does not start with 'rnn.'"
    again = from_torch(to_torch(model), activation="relu", batch_first=True)  # embedding., recurrent., head.
    np.testing.assert_array_equal(again(ids).predictions.numpy(), model(ids).predictions.numpy())
    assert isinstance(from_torch(theirs.words), mr.Embedding)
    assert from_torch(theirs.out).bias is not None
    shuffled = dict(reversed(theirs.state_dict().items()))  # as a file has them in an order of its own
    again = from_torch(shuffled, activation="relu", batch_first=True)
    np.testing.assert_array_equal(again(ids).predictions.numpy(), model(ids).predictions.numpy())
    half = {name: value.to(torch.bfloat16) for name, value in theirs.rnn.state_dict().items()}
    read = from_torch(half, activation="relu")
    assert read.dtype == np.float32
    assert "weight_hh_l0 is bfloat16, read as the same numbers in float32" in read.report.assumed


ARRAYS = to_torch(mr.GRULayer(2, 3, rng=0))
PROJ = {"weight_ih_l0": np.ones((12, 2)), "weight_hh_l0": np.ones((12, 2)), "weight_hr_l0": np.ones((2, 3))}
REFUSED = [  # source, options, what is said
    (3, {}, "expected a torch module or a dict of arrays, got a int"),
    ({1: 2}, {}, "expected a dict of arrays by name, got {1: 2} (dict)"),
    ({}, {}, "no name starts with '': there are none"),
    (ARRAYS, {"prefix": "rnn."}, "no name starts with 'rnn.': there are 'weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', "
     "'bias_hh_l0'"),
    (ARRAYS, {"cell": "lstm"}, "cell='lstm' has 4·H rows, and weight_hh_l0 has 3·H: it is 'gru'"),
    (ARRAYS, {"reset_after": False}, "reset_after=False: torch.nn.GRU resets after the product"),
    (ARRAYS, {"cell": "rnn"}, "cell must be 'elman', 'lstm', 'gru' or None, got 'rnn'"),
    (ARRAYS, {"readout": "last"}, "readout='last' is of a whole model, and there is a recurrent part alone: leave it "
     "out"),
    ({k: v for k, v in ARRAYS.items() if k != "bias_hh_l0"}, {}, "there is no array 'bias_hh_l0': it holds "
     "'weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0'"),
    (ARRAYS | {"alpha": np.ones(1)}, {}, "it holds 'alpha' beside the weights of a recurrent module"),
    (ARRAYS | {"act.alpha": np.ones(1)}, {}, "act holds 'alpha', and minirnn has no module of these"),
    (ARRAYS | {"weight_ih_l0": np.ones((9, 2, 1))}, {}, "weight_ih_l0 must have shape (9, any), got (9, 2, 1)"),
    (ARRAYS | {"weight_hh_l0": np.ones((6, 3))}, {}, "weight_hh_l0 has 6 rows for H=3: 1, 3 or 4 times H make elman, "
     "gru or lstm"),
    (ARRAYS | {"bias_ih_l0": np.full(9, np.nan)}, {}, "bias_ih_l0 holds NaN or inf: a layer of them gives nothing "
     "else"),
    (ARRAYS | {"bias_ih_l0": np.arange(9)}, {}, "bias_ih_l0 must be float32 or float64, got an array of shape (9,) and "
     "dtype int64"),
    ({"weight_ih_l1": ARRAYS["weight_ih_l0"]}, {}, "it has layers [1] in directions ['']: some are missing"),
    (PROJ | {"weight_hr_l0": np.ones((2, 2))}, {}, "weight_hr_l0 must have shape (2, 3), got (2, 2)"),
    (PROJ | {"weight_hh_l0": np.ones((12, 3)), "weight_hr_l0": np.ones((3, 3))}, {}, "weight_hr_l0 must have fewer "
     "rows than columns"),
    ({k: a for k, a in PROJ.items() if k != "weight_hr_l0"}, {}, "weight_hh_l0 has 12 rows for H=2: 1, 3 or 4 times H "
     "make elman, gru or lstm"),
    ({"a.weight": np.ones((2, 3)), "b.weight": np.ones((2, 3))}, {}, "there is no recurrent part among 'a', 'b': say "
     "by prefix= which to read"),
    ({"weight": np.ones((2, 3))}, {}, "weight alone is an Embedding or a Linear without bias: give the module, or the "
     "whole model"),
    ({f"{p}.{n}": a for p in "ab" for n, a in ARRAYS.items()}, {}, "there are 2 recurrent parts, 'a', 'b': say by "
     "prefix= which to read"),
    ({f"a.{n}": a for n, a in ARRAYS.items()} | {"b.weight": np.ones((2, 9)), "b.bias": np.ones(2)}, {}, "b is neither "
     "an embedding before a nor a head after it, or a second one: say by prefix= which part to read"),
    (dict.fromkeys(map(str, range(10_001)), 0), {}, "got 10,001 arrays, of at most 10,000"),
    (to_torch(mr.GRULayer(2, 3)), {"activation": "relu"}, "activation='relu' is not for 'gru': leave it out"),
    (to_torch(mr.RecurrentLayer(2, 3)), {"activation": "softplus"}, "activation must be one of tanh, relu, sigmoid, "
     "identity, got 'softplus'"),
]  # fmt: skip


def test_what_cannot_be_read_is_refused_by_name():
    for source, options, message in REFUSED:
        with noted(message), raises(InteropError, f"from_torch: {message}"):
            from_torch(source, **options)


def lstm(**settings):
    return mr.LSTMLayer(2, 3, rng=0, **settings)


ONE_BY_ONE = "one module there has layers of one kind, and here is one of"


class Own(mr.LSTMLayer):
    pass


class OwnModel(mr.SequenceModel):
    pass


UNWRITTEN = [
    (Own(2, 3), "a layer of its own, Own, has no equal elsewhere"),
    (OwnModel(lstm(), mr.Linear(3, 1)), "model must be a layer or a model made of minirnn's own, got OwnModel"),
    (lstm(zoneout=0.5), "LSTMLayer with zoneout=0.5 has no equal elsewhere"),
    (mr.RecurrentLayer(2, 3, activation="sigmoid"), "RecurrentLayer has activation='sigmoid': torch.nn.RNN "
     "has tanh and relu"),
    (mr.GRULayer(2, 3, reset_after=False), "GRULayer has reset_after=False: torch.nn.GRU resets after the product"),
    (lstm(reverse=True), "LSTMLayer has reverse=True alone: torch's modules go backward only beside a forward one; "
     "turn time round instead"),
    (lstm(learn_initial_state=True), "LSTMLayer has learn_initial_state=True: torch's modules have no such array; pass "
     "it to their call"),
    (mr.Stacked([lstm(), mr.GRULayer(3, 3)]), f"{ONE_BY_ONE} lstm and one of gru: export them one by one"),
    (mr.Stacked([lstm(), mr.LSTMLayer(3, 4)]), f"{ONE_BY_ONE} H=3 and one of H=4: export them one by one"),
    (mr.Bidirectional(lstm(), lstm(reverse=True, bias=False)), f"{ONE_BY_ONE} bias=True and one of bias=False: export "
     "them one by one"),
    (mr.RecurrentLayer(2, 3, activation=(np.tanh, lambda y: 1 - y * y)), "the pair (φ, φ′) of RecurrentLayer has no "
     "equal elsewhere, whatever its name is"),
    (mr.Stacked([mr.Bidirectional(mr.LSTMLayer(3, 3), mr.LSTMLayer(3, 3, reverse=True)), mr.LSTMLayer(6, 3)]), "some "
     "of the layers are Bidirectional, and others not: export them one by one"),
    (mr.SequenceModel(lstm(), mr.Module()), "model must be a layer or a model made of minirnn's own, got Module"),
    (7, "model must be a layer or a model made of minirnn's own, got 7 (int)"),
]  # fmt: skip


def test_what_torch_has_not_is_refused_by_name():
    for model, message in UNWRITTEN:
        with noted(message), raises(InteropError, f"to_torch: {message}"):
            to_torch(model)


def test_what_only_training_uses_is_left_out_with_a_warning():
    model = mr.Stacked([lstm(recurrent_dropout=0.25, remat=True), mr.LSTMLayer(3, 3)], dropout=0.5)
    said = "to_torch: training only, left out: Dropout(0.5) of dropout, recurrent_dropout=0.25 of 0, remat=True of 0"
    with pytest.warns(UserWarning, match=said.replace("(", r"\(").replace(")", r"\)")):
        assert len(to_torch(model)) == 8


def test_no_memory_is_shared():
    arrays = {"rnn." + name: a for name, a in to_torch(mr.GRULayer(2, 3, rng=0)).items()}
    arrays |= {"words.weight": np.ones((7, 2), np.float32), "out.weight": np.ones((1, 3), np.float32)}
    model = from_torch(arrays)
    written = to_torch(model)
    for p in model.parameters():
        assert p.data.flags.c_contiguous
        assert not any(np.shares_memory(p.data, a) for a in [*arrays.values(), *written.values()])
