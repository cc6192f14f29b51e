"""A training with chance in the model and in the data, run in this process or in one of its own."""

import itertools
import json
import os
import sys
import time

import numpy as np

import minirnn as mr
from minirnn.training import Checkpointing, accuracy, early_stopping, every, fit, schedules

WAYS = {
    "whole": {},
    "carried": {"carry_state": True},
    "truncated": {"carry_state": True, "tbptt": (2, 5)},
    "truncated alone": {"tbptt": (4, 3)},
    "lengths": {},
}


def model_of():
    shared = np.random.default_rng(5)
    lower = mr.LSTMLayer(3, 5, recurrent_dropout=0.2, rng=shared)
    stack = mr.Stacked([lower, mr.GRULayer(5, 4, rng=shared)], dropout=0.3, rng=9)
    return mr.SequenceModel(stack, mr.Linear(4, 6, rng=shared)), shared


def batches(way, rng, pause=0.0):
    for i in itertools.count():
        x, ids = rng.normal(size=(6, 2, 3)).astype(np.float32), rng.integers(0, 6, size=(6, 2))
        time.sleep(pause)
        if way == "lengths":
            yield x, ids, rng.integers(1, 7, size=2)
        else:
            yield x, ids, i % 4 == 0


def train(way, updates, path=None, resume=False, save_every=4, pause=0.0, callbacks=()):
    """Train; the data come from the Generator that the layers draw from too."""
    model, shared = model_of()
    adam = mr.optim.Adam(model.parameters(), 0.01)
    checkpoint = None if path is None else Checkpointing(path, every=save_every, resume=resume, settings={"way": way})
    history = fit(
        model, batches(way, shared, pause), loss=mr.losses.cross_entropy, optimizer=adam, max_updates=updates,
        clip_norm=0.5, schedule=schedules.cosine(40), metrics={"accuracy": accuracy}, progress=False,
        callbacks=[every(5, lambda history: history.record("doubled", 2 * history.loss[-1])), *callbacks],
        stop=early_stopping("doubled", 50), checkpoint=checkpoint, **WAYS[way],
    )  # fmt: skip
    return model, adam, history


def seen(model, adam, history):
    """Return all that must be the same to the last bit."""
    arrays = {name: p.data.tobytes().hex() for name, p in model.named_parameters()}
    arrays |= {"loss": history.loss.tobytes().hex(), "norm": history.grad_norm.tobytes().hex()}
    arrays |= {name: a.tobytes().hex() for name, a in history.metrics.items()}
    return arrays | {"evaluations": [list(e) for e in history.evaluations["doubled"]], "lr": adam.lr}


if __name__ == "__main__":
    name, total, directory, out = sys.argv[1:5]
    slow = float(os.environ.get("PAUSE", "0"))
    made = train(name, int(total), directory, resume=True, pause=slow, callbacks=[lambda history: print(flush=True)])
    with open(out, "w", encoding="utf-8") as file:
        json.dump([seen(*made), made[2].interrupted], file)
