"""Weights and models in and out of Keras 3, against what it computes in float64 with torch, and from its files."""

import io
import itertools
import json
import os
import warnings
import zipfile
from unittest import mock

import numpy as np
import pytest
from error_texts import raises
from interop_cases import holds
from notes import noted

import minirnn as mr
from minirnn.interop import InteropError, from_keras, to_keras
from minirnn.interop.keras_files import write_h5
from minirnn.interop.of_keras import keras_layers

T, N, D, H, LENGTHS = 5, 3, 2, 4, [2, 5, 4]
MASK = np.arange(T) < np.array(LENGTHS)[:, None]
PHI = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "linear": "identity"}
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # keras's own
quiet = pytest.mark.filterwarnings("ignore:to_keras. not in the arrays")


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of while they are imported is not ours to mend
        torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[peers]'")
        keras = pytest.importorskip("keras", reason="keras is not installed: pip install 'keras>=3'")
    from keras.src.backend.common import dtypes

    before = keras.backend.floatx()
    keras.backend.set_floatx("float64")
    float64 = mock.patch.dict(dtypes.BIT64_TO_BIT32_DTYPE, float64="float64")  # else with tensorflow alone
    with float64, torch.no_grad():  # what a model computes goes to numpy
        yield keras
    keras.backend.set_floatx(before)


@pytest.fixture(scope="module")
def h5py():
    return pytest.importorskip("h5py", reason="h5py is not installed: pip install -e '.[keras]'")


def points():
    for bias, backwards, mask in itertools.product((True, False), (False, True), (None, MASK)):
        options = {"use_bias": bias, "go_backwards": backwards}
        for phi in PHI:
            yield "SimpleRNN", options | {"activation": phi}, mask
        yield "LSTM", options, mask
        for after in True, False:
            yield "GRU", options | {"reset_after": after}, mask


def shaken(layer, rng):
    layer.set_weights([rng.standard_normal(w.shape) * 0.5 for w in layer.get_weights()])
    return layer


def agree(model, theirs, x, mask, backwards=False):
    """Outputs at valid steps, and the final state if there is one."""
    outputs, *final = theirs(x, mask=mask)
    outputs = np.asarray(outputs)[:, :: -1 if backwards else 1]
    y, state = model(x, lengths=None if mask is None else LENGTHS)
    valid = np.ones((N, T), bool) if mask is None else mask
    np.testing.assert_allclose(y.numpy()[valid], outputs[valid], rtol=0, atol=1e-12)
    for a, b in zip(holds(state), final, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=0, atol=1e-12)


@pytest.mark.peer
@quiet
def test_keras_computes_the_same(keras):
    rng, cases = np.random.default_rng(0), 0
    for kind, options, mask in points():
        with noted(f"{kind} {options} masked={mask is not None}"):
            x = rng.standard_normal((N, T, D))
            theirs = getattr(keras.layers, kind)(H, return_sequences=True, return_state=True, **options)
            theirs.build((None, None, D))
            shaken(theirs, rng)
            model, backwards = from_keras(theirs), options["go_backwards"]
            agree(model, theirs, x, mask, backwards)
            own = {"activation": PHI[options["activation"]]} if kind == "SimpleRNN" else {}
            alone = from_keras(theirs.get_weights(), reset_after=options.get("reset_after"), reverse=backwards, **own)
            assert repr(alone) == repr(model)
            np.testing.assert_array_equal(alone(x).outputs.numpy(), model(x).outputs.numpy())
            other = getattr(keras.layers, kind)(H, return_sequences=True, return_state=True, **options)
            other.build((None, None, D))
            other.set_weights(to_keras(model))
            agree(model, other, x, mask, backwards)
            cases += 1
    assert cases == 56


@pytest.mark.peer
@quiet
def test_both_ways_and_every_merge(keras):
    rng = np.random.default_rng(1)
    merges = "concat", "sum", "mul", "ave"
    for kind, merge, mask in itertools.product(("LSTM", "GRU", "SimpleRNN"), merges, (None, MASK)):
        with noted(f"{kind} {merge} masked={mask is not None}"):
            inner = getattr(keras.layers, kind)(H, return_sequences=True, return_state=True)
            theirs = keras.layers.Bidirectional(inner, merge_mode=merge)
            theirs.build((None, None, D))
            x = rng.standard_normal((N, T, D))
            shaken(theirs, rng)
            model = from_keras(theirs)
            agree(model, theirs, x, mask)
            theirs.set_weights(to_keras(model))
            agree(model, theirs, x, mask)


def whole(keras, sequences):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((None,)),
            layers.Embedding(7, D),
            layers.Bidirectional(layers.LSTM(H, return_sequences=True, dropout=0.25, name="lstm")),
            layers.Dropout(0.5),
            layers.GRU(H, return_sequences=True, go_backwards=True, name="mine"),
            layers.GRU(3, return_sequences=sequences, reset_after=False),
            layers.TimeDistributed(layers.Dense(2)) if sequences else layers.Dense(2),
        ]
    )


@pytest.mark.peer
@pytest.mark.parametrize("sequences", [True, False])
def test_whole_models_and_their_files(sequences, keras, h5py, tmp_path):
    rng = np.random.default_rng(2)
    theirs = shaken_model(whole(keras, sequences), rng)
    theirs.compile("adam", "mse")
    ids = rng.integers(1, 7, (N, T))
    exact = np.asarray(theirs(ids))[:, :: -1 if sequences else 1]  # above go_backwards
    theirs.save(tmp_path / "model.keras")
    for model in from_keras(theirs), from_keras(tmp_path / "model.keras"):
        np.testing.assert_allclose(model(ids).predictions.numpy(), exact, rtol=0, atol=1e-12)
        assert model.readout == ("all" if sequences else "last")
        assert "dropout=0.25 of 'forward_lstm', which is for training only" in model.report.left_out
    theirs.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(InteropError, match=r"the order of .* is not in a .weights.h5: give the .keras file$"):
        from_keras(tmp_path / "model.weights.h5")


def shaken_model(model, rng):
    for layer in model.layers:
        if not any(w.dtype.kind in "iu" for w in layer.get_weights()):
            shaken(layer, rng)
    return model


@pytest.mark.peer
@quiet
def test_arrays_alone_in_a_file(keras, h5py, tmp_path):
    rng, path = np.random.default_rng(3), tmp_path / "model.weights.h5"
    for kind, options in ("SimpleRNN", {}), ("LSTM", {}), ("GRU", {}), ("GRU", {"reset_after": False}):
        layers = [getattr(keras.layers, kind)(H, return_sequences=True, **options) for _ in range(12)]  # _10 before _2
        model = keras.Sequential([keras.layers.Input((None, D)), *layers, keras.layers.Dense(2)])
        shaken_model(model, rng).save_weights(path)
        x = rng.standard_normal((N, T, D))
        ours = from_keras(path)
        np.testing.assert_allclose(ours(x).predictions.numpy(), model(x), rtol=0, atol=1e-12)
        assert "the file holds arrays alone" in ours.report.assumed[0]
        model.set_weights([0 * w for w in model.get_weights()])
        model.load_weights(write_h5(keras_layers(ours), path, "export"))
        for a, b in zip(model.get_weights(), to_keras(ours), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(ours(x).predictions.numpy(), model(x), rtol=0, atol=1e-12)


@pytest.mark.peer
def test_what_has_no_equal_is_refused_by_name(keras, h5py, tmp_path):
    L, path = keras.layers, tmp_path / "model.keras"

    def tanh(x):
        return x

    for layer, message in [
        (L.Dense(2, activation="softmax", name="d"), "Dense 'd' with activation 'softmax' has no equal in minirnn"),
        (L.LSTM(H, recurrent_activation="hard_sigmoid", name="l"), "LSTM 'l' with recurrent_activation='hard_sigmoid'"),
        (L.SimpleRNN(H, activation="elu", name="s"), "SimpleRNN 's' with activation='elu' has no equal in minirnn"),
        (L.Conv1D(2, 1, name="c"), "Conv1D 'c' with activation 'linear' has no equal in minirnn"),
        (L.Bidirectional(L.LSTM(H), merge_mode=None), "Bidirectional with merge_mode=None has no equal in minirnn"),
        (L.LayerNormalization(name="n"), "LayerNormalization 'n' has no equal in minirnn"),
    ]:
        model = keras.Sequential([keras.Input((None, D)), L.LSTM(D, return_sequences=True), layer])
        model.save(path)
        for source in model, path:
            with noted(message), pytest.raises(InteropError) as caught:
                from_keras(source)
            assert message in str(caught.value)
    masked = [L.Masking(), L.LSTM(H, return_sequences=True, go_backwards=True), L.GRU(H, name="g")]
    with raises(InteropError, "from_keras: GRU 'g': Keras's mask does not turn with its sequence"):
        from_keras(keras.Sequential([keras.Input((None, D)), *masked]))
    own = L.SimpleRNN(H, activation=tanh, name="s")
    own.build((None, None, D))
    with pytest.raises(InteropError, match=r"SimpleRNN 's' with activation='test_keras.tanh' has no equal in minirnn"):
        from_keras(own)  # it is only called tanh


@pytest.mark.peer
def test_only_a_chain_of_layers_is_read(keras, h5py, tmp_path):
    L, path, x = keras.layers, tmp_path / "model.keras", keras.Input((T, D))
    y, h, c = L.LSTM(D, return_sequences=True, return_state=True, name="lstm")(x)
    again = L.Dense(D, name="again")
    for model, message in [
        (keras.Model(x, [L.Dense(D, name="a")(y), L.Dense(2, name="b")(y)]), "layer 'b' reads 'lstm'"),
        (keras.Model(x, again(again(y))), "layer 'again' reads 'lstm', 'again'"),
        (keras.Model(x, L.Dense(2, name="a")(c)), "layer 'a' reads 'lstm', output 2"),
        (keras.Model(x, h), "outputs are 'lstm', output 1"),
        (keras.Model(x, {"one": L.Dense(2, name="a")(y), "two": y}), "outputs are 'a', 'lstm'"),
    ]:
        model.save(path)
        for source in model, path:
            with noted(message), pytest.raises(InteropError, match=f"^from_keras: its {message}: only "):
                from_keras(source)

    class Own(keras.Sequential):
        def call(self, x):
            return -super().call(x)

    layers = [keras.Input((T, D)), L.Dropout(0.5), L.GRU(H)]
    with pytest.raises(InteropError, match=r"^from_keras: its model is a Own, whose call is not read: a Seq"):
        from_keras(Own(layers))
    ours = from_keras(model := keras.Sequential(layers))
    assert ours.report.assumed == ["Keras gives the last output alone, which is final_state here"]
    model.save_weights(arrays := tmp_path / "model.weights.h5")
    assert "Dropout 'dropout', which is for training only" in from_keras(arrays, readout="last").report.left_out
    keras.Sequential([*layers, L.RepeatVector(2), L.GRU(H)]).save_weights(arrays)
    with raises(InteropError, "from_keras: it holds 'repeat_vector', which minirnn has not"):
        from_keras(arrays)
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file["model_weights/gru/kernel"] = np.ones(3)
    with pytest.raises(InteropError, match=r"old.h5' has no layers as a .* has them, but 'model_weights/gru/k"):
        from_keras(tmp_path / "old.h5")


# --- without keras ----------------------------------------------------------------------------------------------------

KERNELS = [np.ones((2, 9)), np.ones((3, 9))]


def test_arrays_that_say_too_little_are_refused():
    for arrays, options, message in [
        (KERNELS, {}, "a GRU without bias does not say whether it resets after the product: give reset_after="),
        ([*KERNELS, np.ones((2, 9))], {"reset_after": False}, "reset_after=False, and its bias has 2 axes"),
        ([*KERNELS, np.ones(9)], {"cell": "lstm"}, "cell='lstm' has 4·H rows, and 1 has 3·H: it is 'gru'"),
        (KERNELS[:1], {}, "expected the 2 or 3 arrays of a layer, or 4 or 6 of a Bidirectional, got 1"),
        ([KERNELS[0], KERNELS[1][:, :8]], {}, "1 has 8 rows for H=3: 1, 3 or 4 times H make elman, gru or lstm"),
    ]:
        with noted(message), raises(InteropError, f"from_keras: {message}"):
            from_keras(arrays, **options)
    with raises(InteropError, "to_keras: Keras's layers have no learned initial state: pass it as initial_state"):
        to_keras(mr.LSTMLayer(2, 3, learn_initial_state=True))
    with pytest.warns(UserWarning, match="^to_keras: not in the arrays, tell Keras: activation='relu', reverse=True$"):
        to_keras(mr.RecurrentLayer(2, 3, activation="relu", reverse=True))
    assert from_keras([np.ones((2, 9)), np.ones((3, 9))], reset_after=False).reset_after is False


def hostile(h5py, folder):
    """Files of h5 that lead elsewhere or grow, by what is said of them."""
    secret, place = folder / "secret.h5", "layers/lstm/cell/vars"
    with h5py.File(secret, "w") as file:
        file["a"] = np.ones(3)
    (folder / "raw").write_bytes(bytes(64))

    def make(name, fill):
        with h5py.File(folder / name, "w") as file:
            fill(file.create_group(place))
        return folder / name

    def virtual(group):
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource(str(secret), "a", (3,))
        group.create_virtual_dataset("0", layout)

    yield make("soft.h5", lambda g: g.__setitem__("0", h5py.SoftLink("/elsewhere"))), "is a link to elsewhere"
    yield make("ext.h5", lambda g: g.__setitem__("0", h5py.ExternalLink(str(secret), "a"))), "is a link to elsewhere"
    raw = [(str(folder / "raw"), 0, 64)]
    yield make("raw.h5", lambda g: g.create_dataset("0", (8,), "f8", external=raw)), "is no array of this file's own"
    yield make("virtual.h5", virtual), "is no array of this file's own"
    yield make("bomb.h5", lambda g: g.create_dataset("0", (10**6, 10**6), "f4", chunks=(1, 8))), "is more than the file"
    yield make("zeros.h5", lambda g: g.create_dataset("0", (10**7,), "f4", compression="gzip")), "is more than the file"
    yield make("loop.h5", lambda g: g.__setitem__("loop", g)), "or in more than 12 levels"
    yield make("text.h5", lambda g: g.create_dataset("0", data="os.system")), "or no numbers"
    (folder / "none.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    yield folder / "none.h5", "cannot be read"


def test_files_that_lead_elsewhere_or_grow_are_refused(h5py, tmp_path):
    for path, message in hostile(h5py, tmp_path):
        with noted(path.name), pytest.raises(InteropError) as caught:
            from_keras(path)
        assert message in str(caught.value)


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if "bomb" in members else zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_dot_", "."), data)
    return path


def test_zips_that_are_not_keras_files_are_refused(h5py, tmp_path):
    stream = io.BytesIO()
    h5py.File(stream, "w").close()
    good = {"config_dot_json": json.dumps({"class_name": "Sequential", "config": {}})}
    weights = {"model_dot_weights_dot_h5": stream.getvalue()}
    for members, message in [
        ({}, "is no .keras file that can be read"),
        (good, "There is no item named 'model.weights.h5' in the archive"),
        (good | weights, "its description is not one of Keras's (KeyError('layers'))"),
        (good | weights | {"../../etc/cron_dot_d/x": "x"}, "its members have names that no file of Keras's has"),
        (good | weights | {"bomb": bytes(10**6)}, "it claims to hold more than its own size"),
        (weights | {"config_dot_json": "[" * 10**5}, "is no .keras file that can be read"),
        (weights | {"config_dot_json": " " * 5_000_000}, "its config.json is too large"),
        (weights | {"config_dot_json": '{"config": {"layers": []}, "class_name": "Own"}'}, "its model is a Own"),
    ]:
        with noted(message), pytest.raises(InteropError) as caught:
            from_keras(zipped(tmp_path / "model.keras", **members))
        assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
