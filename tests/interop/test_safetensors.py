"""Files of safetensors: every layer comes back equal, also by torch's own loader; hostile files are refused."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
from error_texts import raises
from notes import noted
from recurrent_cases import BUILT_IN, directions, stack

import minirnn as mr
from minirnn.interop import InteropError, load_safetensors, save_safetensors, to_torch

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed: pip install -e '.[peers]'")
EVERY = {name: make for name, make in BUILT_IN.items() if name != "pair"} | {"both": directions, "stack": stack}


def models():
    for name, make in EVERY.items():
        for settings in {}, {"bias": False}, {"learn_initial_state": True, "reverse": True, "dtype": np.float64}:
            yield make(4, 5, rng=0, **({} if name in ("both", "stack") else settings))
    yield mr.SequenceModel(
        mr.Stacked([mr.LSTMLayer(3, 4, batch_first=True), mr.GRULayer(4, 4, batch_first=True)], dropout=0.5),
        mr.Sequential(mr.Linear(4, 3), mr.Dropout(0.25), mr.Linear(3, 2, bias=False)),
        "last",
        embedding=mr.Embedding(9, 3, padding_idx=2),
    )


def test_every_layer_comes_back_equal(tmp_path):
    path = tmp_path / "model.safetensors"
    for model in models():
        with noted(repr(model)):
            save_safetensors(model, path, {"of": "a test"})
            again = load_safetensors(path)
            assert repr(again) == repr(model)
            assert list(again.report.mapped) == [name for name, _ in model.named_parameters()]
            arrays = safetensors.load_file(path)
            for name, array in model.state_dict().items():
                for found in again.state_dict()[name], arrays[name]:
                    np.testing.assert_array_equal(found, array)
                    assert found.dtype == array.dtype


@pytest.mark.peer
def test_torch_reads_and_writes_them_too(tmp_path, torch):
    from safetensors import torch as of_torch

    module = torch.nn.LSTM(3, 4, 2)
    path = str(tmp_path / "weights.safetensors")
    of_torch.save_file({name: p.to(torch.bfloat16) for name, p in module.state_dict().items()}, path)
    model = load_safetensors(path, batch_first=True)  # which is not minirnn's: by torch's names
    for name, array in to_torch(model).items():
        if "bias" not in name:
            np.testing.assert_array_equal(array, module.state_dict()[name].to(torch.bfloat16).float())
    save_safetensors(model, path)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(of_torch.load_file(path)[name], array)


def test_what_is_no_floats_is_left_aside_where_nobody_asks_for_it(tmp_path):
    arrays = {f"rnn.{name}": array for name, array in to_torch(mr.GRULayer(2, 3, rng=0)).items()}
    found = arrays | {"mask": np.ones(3, bool), "seen": np.array([7], np.uint8)}
    (tmp_path / "a.safetensors").write_bytes(safetensors.save(found))
    assert load_safetensors(tmp_path / "a.safetensors", prefix="rnn.").hidden_size == 3
    with pytest.raises(InteropError, match=r"holds '\w+', '\w+', and minirnn has no module of these"):
        load_safetensors(tmp_path / "a.safetensors")


def test_weights_go_into_a_model_that_is_given(tmp_path):
    class Own(mr.Module):
        def __init__(self):
            super().__init__()
            self.inner = mr.Linear(2, 3)

    path = save_safetensors(Own(), tmp_path / "own.safetensors")
    with pytest.raises(InteropError, match=r"^load_safetensors: it was saved of a model that is not minirnn's own"):
        load_safetensors(path)  # in which torch would have its Linear the other way round
    model = Own()
    assert load_safetensors(path, model) is model
    np.testing.assert_array_equal(model.inner.weight.data, safetensors.load_file(path)["inner.weight"])
    with pytest.raises(InteropError, match="load_safetensors: there is no array 'weight': it holds 'inner"):
        load_safetensors(path, mr.Linear(2, 3))


def test_what_was_widened_or_rounded_is_in_the_report(tmp_path):
    path, weight = tmp_path / "a.safetensors", np.array([[1.0, -2.5, 3.140625]])
    bits = (weight.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    entries = {"weight": ("BF16", [1, 3], bits), "bias": ("F16", [3], np.ones(3, "<f2").tobytes())}
    at, listed, data = 0, {}, b""
    for name, (dtype, shape, part) in entries.items():
        listed[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at := at + len(part)]}
        data += part
    path.write_bytes(header(listed, data))
    lines = [
        f"{name} is {kind}, read as the same numbers in float32"
        for name, kind in (("weight", "bfloat16"), ("bias", "float16"))
    ]
    for model in load_safetensors(path, mr.Linear(1, 3)), load_safetensors(path, mr.Linear(1, 3, dtype=np.float64)):
        assert model.report.assumed == lines
        np.testing.assert_array_equal(model.weight.data, weight)
    path.write_bytes(header(dict(reversed(listed.items())), data))
    assert load_safetensors(path, mr.Linear(1, 3)).report.assumed == lines
    path.write_bytes(safetensors.save({"weight": weight, "bias": np.ones(3)}))
    rounded = [f"{name} is float64, rounded to the model's float32" for name in ("weight", "bias")]
    assert load_safetensors(path, mr.Linear(1, 3)).report.assumed == rounded
    path.write_bytes(safetensors.save({"weight": weight, "bias": np.full(3, 1e300)}))
    model = mr.Linear(1, 3, rng=0)
    before = model.weight.data.copy()
    with raises(InteropError, "load_safetensors: bias holds 1e+300 at [0], too large for float32: try float64"):
        load_safetensors(path, model)
    np.testing.assert_array_equal(model.weight.data, before)


def header(entries, data=b""):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def described(*sizes, **more):
    text = json.dumps({"is": "GRULayer", "sizes": sizes} | more)
    arrays = {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in ("W_xh",)}
    return header({"__metadata__": {"minirnn": text}} | arrays, bytes(4))


A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = [
    (b"", "its header is of 0 bytes"),
    (b"PK\3\4" + bytes(100), "its header is of 67,324,752 bytes"),
    (struct.pack("<Q", 2**40), "its header is of 1,099,511,627,776 bytes"),
    (header(b"[" * 2**20), "cannot be read"),
    (header({"a": A}), "cannot be read"),
    (header({"a": A | {"shape": [2**40, 2**40]}}, bytes(8)), "cannot be read"),
    (header({"a": A, "b": A}, bytes(8)), "cannot be read"),
    (header({"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}, bytes(8)), "it holds F8_E4M3"),
    (described(10**9, 10**9), "are not those of its 1 numbers"),
    (described("3", 1), "sizes ['3', 1] are not those of its 1 numbers"),
    (described(1, 1), "sizes [1, 1] are not those of its 1 numbers"),
    (described(1, 1, code="os.system"), "GRULayer has no code"),
    (header({"__metadata__": {"minirnn": "[" * 10_000}, "a": A}, bytes(8)), "its description of the model is none"),
    (
        header({"__metadata__": {"minirnn": '{"is": "Module"}'}, "a": A}, bytes(8)),
        "its description of the model is none",
    ),
]


@pytest.mark.parametrize(("data", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_files_are_refused_and_take_no_memory(data, message, tmp_path):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(InteropError) as caught:
        load_safetensors(path)
    assert message in str(caught.value)
    assert tracemalloc.get_traced_memory()[1] < 10 * len(data) + 2**20
    tracemalloc.stop()
