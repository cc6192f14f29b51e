"""Weights in and out of flax, linen and nnx, and of equinox, against what they compute in float64."""

import itertools
import warnings

import numpy as np
import pytest
from error_texts import raises
from notes import noted

import minirnn as mr
from minirnn.interop import InteropError, from_equinox, from_flax, to_equinox, to_flax

T, N, D, H = 3, 3, 2, 4
PHI = ["tanh", "relu", "sigmoid", "identity"]


@pytest.fixture(scope="module")
def jax():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of while they are imported is not ours to mend
        jax = pytest.importorskip("jax", reason="jax is not installed: pip install -e '.[bench]'")
        pytest.importorskip("flax.nnx", reason="flax is not installed: pip install -e '.[peers]'")
        pytest.importorskip("equinox", reason="equinox is not installed: pip install -e '.[peers]'")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield jax
    jax.config.update("jax_enable_x64", before)


def unroll(cell, carry, x):
    """Every step's output, and the last carry; a cell takes (carry, x_t) and returns (carry, y_t)."""
    outputs = []
    for x_t in x:
        carry, y = cell(carry, x_t)
        outputs.append(np.asarray(y))
    return np.stack(outputs), carry


def drawn(kind, rng, bias=True, phi="tanh", reverse=False, after=True):
    own = {"elman": {"activation": phi}, "gru": {"reset_after": after}, "lstm": {}}[kind]
    make = {"elman": mr.RecurrentLayer, "gru": mr.GRULayer, "lstm": mr.LSTMLayer}[kind]
    layer = make(D, H, bias=bias, reverse=reverse, dtype=np.float64, rng=rng, **own)
    for p in layer.parameters():
        p.data = rng.standard_normal(p.shape)
    return layer


def check(layer, outputs, carry, x, state):
    y, final = layer(x, state)
    np.testing.assert_allclose(y.numpy(), outputs, rtol=0, atol=1e-12 * max(1, np.abs(outputs).max()))
    final = final if isinstance(final, tuple) else (final,)
    for a, b in zip(final, carry, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=0, atol=1e-12 * max(1, np.abs(b).max()))


POINTS = [("elman", bias, phi) for bias in (True, False) for phi in PHI]
POINTS += [(kind, bias, "tanh") for kind in ("lstm", "gru") for bias in (True, False)]


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:to_flax. not in the arrays")
def test_flax_computes_the_same(jax):
    import flax.linen as nn
    from flax import nnx

    rng, cases = np.random.default_rng(0), 0
    for (kind, bias, phi), api, reverse in itertools.product(POINTS, ("linen", "nnx", "fused"), (False, True)):
        if api == "fused" and kind != "lstm":
            continue
        with noted(f"{kind} {bias} {phi} {api} {reverse}"):
            layer = drawn(kind, rng, bias, phi, reverse)
            if api == "nnx" and kind == "gru" and bias:
                layer.b_hn.data = np.zeros(H)
            x, h, c = rng.standard_normal((T, N, D)), *rng.standard_normal((2, N, H))
            act = {"tanh": nn.tanh, "relu": nn.relu, "sigmoid": nn.sigmoid, "identity": lambda z: z}[phi]
            options = {"activation_fn": act} if kind == "elman" else {}
            names = {"elman": "SimpleCell", "lstm": "LSTMCell", "gru": "GRUCell"}
            if api == "linen":
                tree = to_flax(layer)
                cell = getattr(nn, names[kind])(H, param_dtype=float, **options)
                step = lambda carry, x_t, cell=cell, tree=tree: cell.apply(tree, carry, x_t)  # noqa: E731
            else:
                tree = to_flax(layer, "nnx")
                if api == "fused":
                    gates = [
                        [tree[k]["kernel"] for k in keys]
                        for keys in (["ii", "if_", "ig", "io"], ["hi", "hf", "hg", "ho"])
                    ]
                    biases = np.concatenate([tree[k]["bias"] for k in ("hi", "hf", "hg", "ho")])
                    tree = {"dense_i": {"kernel": np.concatenate(gates[0], 1)}}
                    tree["dense_h"] = {"kernel": np.concatenate(gates[1], 1), "bias": biases}
                name = "OptimizedLSTMCell" if api == "fused" else names[kind]
                step = getattr(nnx, name)(D, H, dtype=float, param_dtype=float, rngs=nnx.Rngs(0), **options)
                state = nnx.state(step, nnx.Param)
                nnx.replace_by_pure_dict(state, jax.tree.map(jax.numpy.asarray, tree))
                nnx.update(step, state)
                tree = nnx.state(step, nnx.Param)
            turn = slice(None, None, -1 if reverse else 1)
            outputs, carry = unroll(step, (c, h) if kind == "lstm" else h, x[turn])
            carry = carry[::-1] if kind == "lstm" else (carry,)
            check(layer, outputs[turn], carry, x, (h, c) if kind == "lstm" else h)
            again = from_flax(tree, kind, activation=phi, reverse=reverse)
            check(again, outputs[turn], carry, x, (h, c) if kind == "lstm" else h)
            assert list(again.report.mapped) == [name for name, _ in again.named_parameters()]
            cases += 1
    assert cases >= 52


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:to_equinox. not in the arrays")
def test_equinox_computes_the_same(jax):
    import equinox as eqx

    rng = np.random.default_rng(1)
    for kind, bias, reverse in itertools.product(("lstm", "gru"), (True, False), (False, True)):
        with noted(f"{kind} {bias} {reverse}"):
            layer = drawn(kind, rng, bias, reverse=reverse)
            x, h, c = rng.standard_normal((T, N, D)), *rng.standard_normal((2, N, H))
            cell = getattr(eqx.nn, f"{kind.upper()}Cell")(D, H, use_bias=bias, key=jax.random.key(0))
            arrays = to_equinox(layer)
            cell = eqx.tree_at(
                lambda c, arrays=arrays: [getattr(c, n) for n in arrays],
                cell,
                [*map(jax.numpy.asarray, arrays.values())],
            )
            one = jax.vmap(lambda x_t, state, cell=cell: cell(x_t, state))
            step = lambda state, x_t, one=one: (s := one(x_t, state), s[0] if kind == "lstm" else s)  # noqa: B023, E731
            turn = slice(None, None, -1 if reverse else 1)
            state = (h, c) if kind == "lstm" else h
            outputs, carry = unroll(step, state, x[turn])
            carry = carry if kind == "lstm" else (carry,)
            check(layer, outputs[turn], carry, x, state)
            check(from_equinox(cell, reverse=reverse), outputs[turn], carry, x, state)


def test_dense_and_embed():
    for module in mr.Linear(2, 3, rng=0), mr.Linear(2, 3, bias=False), mr.Embedding(5, 2, rng=0):
        for api in "linen", "nnx":
            again = from_flax(to_flax(module, api))
            assert repr(again) == repr(module)
            for name, array in module.state_dict().items():
                np.testing.assert_array_equal(again.state_dict()[name], array)


GRU = mr.GRULayer(2, 3, rng=0)
GRU.b_hn.data += 1
TREE = to_flax(GRU)["params"]
REFUSED = [
    (lambda: from_flax(3), "from_flax: expected a tree of dicts with arrays, got a int"),
    (lambda: from_flax({"a": TREE, "b": TREE}), "from_flax: there is no one cell of flax's here, but ['a.hn.bias', "
     "'a.hn.kernel', 'a.hr.kernel', 'a.hz.kernel']: give the tree of one"),
    (lambda: from_flax(TREE | {"hr": {}}), "from_flax: there is no array 'hr.kernel': it holds 'ir.kernel', 'ir.bias', "
     "'iz.kernel', 'iz.bias', 'in.kernel', 'in.bias' and 3 more"),
    (lambda: from_flax(TREE | {"dropout": np.ones(1)}), "from_flax: nothing here corresponds to 'dropout': take them "
     "out, or say by prefix= which part to read"),
    (lambda: from_flax(TREE, "lstm"), "from_flax: cell='lstm' has 4·H rows, and the tree has 3·H: it is 'gru'"),
    (lambda: from_flax(TREE, reset_after=False), "from_flax: reset_after=False: flax's GRUCell resets after the "
     "product"),
    (lambda: from_flax(TREE, activation="relu"), "from_flax: activation='relu' is not for 'gru': leave it out"),
    (lambda: to_flax(GRU, "nnx"), "to_flax: b_hn is not 0, and nnx's GRUCell has no recurrent bias: api='linen' has "
     "one"),
    (lambda: to_flax(mr.GRULayer(2, 3, reset_after=False)), "to_flax: flax has no GRU with reset_after=False"),
    (lambda: to_flax(mr.LSTMLayer(2, 3, learn_initial_state=True)), "to_flax: flax's cells have no learned initial "
     "state: pass it as the carry"),
    (lambda: to_flax(mr.Stacked([GRU])), "to_flax: model must be one layer, got a Stacked: hand its parts over"),
    (lambda: from_equinox({"weight_hh": np.ones((3, 3)), "weight_ih": np.ones((3, 2))}), "from_equinox: weight_hh has "
     "1·H rows, and equinox has LSTMCell and GRUCell alone"),
    (lambda: from_equinox(to_equinox(GRU), reset_after=False), "from_equinox: activation='tanh' with reset_after=False "
     "is of none of equinox's cells"),
    (lambda: from_equinox(object()), "from_equinox: there is no array 'weight_hh': it holds none"),
    (lambda: to_equinox(mr.RecurrentLayer(2, 3)), "to_equinox: equinox has LSTMCell and GRUCell, and no cell of an "
     "Elman layer"),
]  # fmt: skip


def test_what_has_no_equal_is_refused_by_name():
    for call, message in REFUSED:
        with noted(message), raises(InteropError, message):
            call()
    with pytest.warns(UserWarning, match="^to_flax: not in the arrays, tell flax: activation='relu', reverse=True$"):
        to_flax(mr.RecurrentLayer(2, 3, activation="relu", reverse=True))
