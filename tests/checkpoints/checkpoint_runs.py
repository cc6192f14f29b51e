"""A small run with chance everywhere, and what is done to it in processes of their own."""

import json
import os
import pathlib
import random
import signal
import sys
import time

import numpy as np

import minirnn as mr
from minirnn.checkpoints import CheckpointDirectory, load_checkpoint, save_checkpoint

T, N, D, H = 6, 7, 3, 5
OPTIMIZERS = {
    "sgd": lambda params: mr.optim.SGD(params, lr=0.1),
    "momentum": lambda params: mr.optim.SGD(params, lr=0.1, momentum=0.9),
    "rmsprop": lambda params: mr.optim.RMSprop(params, lr=0.01, rho=0.8),
    "adam": lambda params: mr.optim.Adam(params, lr=0.02, betas=(0.8, 0.95)),
}


def build(optimizer="adam", seed=0, **changes):
    """Return a run: an LSTM under a GRU with two kinds of dropout; one Generator is the layers' and the loop's."""
    shared = np.random.default_rng(seed)
    masks = np.random.Generator(np.random.MT19937(seed + 1))
    lower = mr.LSTMLayer(D, H, recurrent_dropout=0.2, rng=shared, **changes)
    upper = mr.GRULayer(H, H - 1, recurrent_dropout=0.1, rng=shared, **changes)
    stack = mr.Stacked([lower, upper], dropout=0.3, rng=masks)
    model = mr.SequenceModel(stack, mr.Linear(H - 1, 2, rng=shared, **changes), readout="last")
    data = np.random.Generator(np.random.Philox(seed + 2))
    generators = {"data": data, "noise": shared}
    return {"model": model, "optimizer": OPTIMIZERS[optimizer](model.parameters()), "generators": generators}


def train(run, updates):
    """Train by hand on random numbers; the learning rate falls, the Generators end in the middle of a word."""
    model, optimizer, rngs = run["model"], run["optimizer"], run["generators"]
    for _ in range(updates):
        x = rngs["data"].standard_normal((T, N, D)) + 0.1 * rngs["noise"].standard_normal((T, N, D))
        rngs["data"].integers(2**31, dtype=np.uint32)
        optimizer.zero_grad()
        mr.losses.mse(model(x)[0], x[:3, :, :2].sum(axis=0)).backward()
        mr.optim.clip_grad_norm(optimizer.params, 1.0)
        optimizer.step()
        optimizer.lr *= 0.97


def resume(directory):
    """Go on from half.npz of each optimiser to the end, from another seed, and save what comes of it."""
    for name in OPTIMIZERS:
        run = build(name, seed=100)
        load_checkpoint(directory / f"{name}-half.npz").restore(**run)
        train(run, 10)
        save_checkpoint(directory / f"{name}-resumed.npz", **run)


def fill(model, value):
    for p in model.parameters():
        p.data = np.full_like(p.data, value)


def save_for_ever(path, start):
    """Save in a directory, with all Parameters equal to the position."""
    model = mr.LSTMLayer(D, 64, rng=0)
    with CheckpointDirectory(path, keep=2) as run:
        for k in range(start, start + 10**6):
            fill(model, k)
            run.save(k, model=model, position=k, metrics={"loss": -k})


def loaded(path):
    """Return the position of what is there, after a look at every number."""
    run = CheckpointDirectory(path)
    checkpoints = [run.latest(), run.best(), *map(load_checkpoint, run.paths().values())]
    for checkpoint in checkpoints:
        assert all((a == checkpoint.position).all() for a in checkpoint.parameters.values())
    return checkpoints[0].position


def kill(path):
    """Kill a process that does nothing but save, at random moments, and load after each; print what was seen.

    Until each of the two has been seen five times: a save cut short, and one or more made.
    """
    random.seed(0)
    kills = seen = parts = position = 0
    model = mr.LSTMLayer(D, 64, rng=0)
    fill(model, 0)
    with CheckpointDirectory(path) as run:
        run.save(0, model=model, position=0, metrics={"loss": 0})
    while min(seen, parts) < 5 and kills < 200:
        kills += 1
        child = os.fork()
        if not child:
            save_for_ever(path, position + 1)
        time.sleep(random.uniform(0.001, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        parts += bool(list(path.glob(".minirnn-*.part")))
        for part in path.glob(".minirnn-*.part"):
            part.unlink()
        now = loaded(path)
        assert now >= position
        seen += now > position
        position = now
    print(json.dumps({"kills": kills, "cut short": parts, "went on": seen, "saves": position}))


def main(task, directory):
    directory = pathlib.Path(directory)
    if task == "resume":
        resume(directory)
    elif task == "kill":
        kill(directory)
    elif task == "hold":
        with CheckpointDirectory(directory):
            print("held", flush=True)
            sys.stdin.read()
    elif task == "fork":  # here: other libraries' hooks in the process of the tests warn of forks
        with CheckpointDirectory(directory):
            child = os.fork()
            if not child:
                signal.pause()
        print(child, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
