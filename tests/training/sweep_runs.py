"""A sweep that takes a second or two, run in this process or, to be killed, in one of its own."""

import os
import pathlib
import signal
import sys
import time

import minirnn as mr
from minirnn.arguments import Made
from minirnn.training import sweep

GRID = {"hidden": [4, 6], "lr": [1e-3, 1e-2]}
SEEDS = 2
UPDATES = 40


def train(trial, pause=0.0):
    """Train a little, with chance in the model and in the data; a trial has checkpoints after every 5 updates."""
    layer = mr.GRULayer(2, trial["hidden"], recurrent_dropout=0.1, rng=trial.for_model)
    model = mr.SequenceModel(layer, mr.Linear(trial["hidden"], 1, rng=trial.for_model), readout="last")
    adam = mr.optim.Adam(model.parameters(), lr=trial["lr"])
    task = mr.tasks.AddingTask(T=5)
    with open(trial.path / "began", "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    rest = {"checkpoint_every": 5, "callbacks": [lambda history: time.sleep(pause)]}
    history = trial.fit(model, task, optimizer=adam, max_updates=UPDATES, batch=4, **rest)
    return {"held-out": mr.training.measure(model, task), "loss": history.loss[-1], "threads": mr.get_num_threads()}


def slowly(pause, trial):
    return train(trial, pause)


def slow(pause):
    """The same training with time to be killed; what it is called is another, what a trial is is the same."""
    return Made(slowly, pause)


def lines(results):
    """Return all that must be the same to the last bit."""
    return [(r.name, r.status, [float(value).hex() for value in r.figures.values()]) for r in results]


def histories(out):
    """Return each trial's history, but for its seconds."""
    found = {}
    for path in pathlib.Path(out).glob("*/history.csv"):
        rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
        found[path.parent.name] = [row[:3] + row[4:] for row in rows]
    return found


def at_work(out):
    """Return the processes that have begun a trial which has not ended."""
    begun = [path for path in pathlib.Path(out).glob("*/began") if not (path.parent / "result.json").exists()]
    texts = [path.read_text(encoding="utf-8").split() for path in begun]
    return [int(text[-1]) for text in texts if text]


def ended(out):
    """Return how many trials have ended."""
    return len(list(pathlib.Path(out).glob("*/result.json")))


def kill(pid):
    """Kill a process; False if it has ended in the meantime."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_until(true, seconds=60.0):
    end = time.perf_counter() + seconds
    while not true():
        assert time.perf_counter() < end
        time.sleep(0.01)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # one that nobody has waited for yet is no more
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    where, pause, out = sys.argv[1:]
    results = sweep(slow(float(pause)), GRID, seeds=SEEDS, out=out, engine=int(where), resume=True, progress=False)
    sys.exit(130 if results.interrupted else 0)
