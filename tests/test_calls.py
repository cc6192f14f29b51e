"""How many Python functions are called beside the arithmetic: time that no machine's clock disturbs."""

import gc
import itertools
import sys

import numpy as np

import minirnn as mr
from minirnn.kernels import elman
from minirnn.training import fit

rng = np.random.default_rng(0)
T, N, D, H = 5, 2, 3, 4
x, y, g = (rng.normal(size=(T, N, size)).astype(np.float32) for size in (D, 1, H))


def calls(run):
    found = []
    before = sys.getprofile()
    gc.disable()  # or what other tests have left behind may call something as it goes
    sys.setprofile(lambda frame, event, _: found.append(frame) if event == "call" else None)
    try:
        run()
    finally:
        sys.setprofile(before)
        gc.enable()
    return len(found)


def test_around_the_kernels_of_a_layer(monkeypatch):
    layer, seen = mr.RecurrentLayer(D, H, rng=0), []

    def whole():
        layer.zero_grad()
        layer(x)[0].backward(g)

    whole()
    kernels = elman.forward, elman.backward
    with monkeypatch.context() as patch:
        for kernel in kernels:
            patch.setattr(elman, kernel.__name__, lambda *given, kernel=kernel: seen.append(given) or kernel(*given))
        whole()
    inner = calls(lambda: [kernel(*given) for kernel, given in zip(kernels, seen, strict=True)])
    assert calls(whole) - inner <= 30  # 62 before most of it was kept from call to call


def test_what_fit_does_beside_an_update():
    model = mr.SequenceModel(mr.RecurrentLayer(D, H, rng=0), mr.Linear(H, 1, rng=1))
    adam = mr.optim.Adam(model.parameters())

    def by_hand(updates):
        for _ in range(updates):
            adam.zero_grad()
            loss = mr.losses.mse(model(x, None)[0], y)
            loss.item()
            loss.backward()
            mr.optim.clip_grad_norm(adam.params, 1.0)
            adam.step()

    def by_fit(updates):
        batches = itertools.repeat((x, y))
        fit(model, batches, loss=mr.losses.mse, optimizer=adam, max_updates=updates, clip_norm=1.0, progress=False)

    by_fit(1)
    a_step = (calls(lambda: by_hand(12)) - calls(lambda: by_hand(2))) / 10
    in_fit = (calls(lambda: by_fit(12)) - calls(lambda: by_fit(2))) / 10
    assert in_fit - a_step <= 35  # 57 before
    assert a_step <= 310  # 331 before
