"""One process of ``cold``: learn the adding problem with one library until it is solved, then say what that took.

    python -m benchmarks.cold_adding --with minirnn

Every 50 updates, once their mean loss is below 0.01, 1,000 held-out sequences are asked: solved when their mean squared
error is below 0.01 too. The rule, the data and the first weights are the same for both libraries.
"""

import argparse
import json
import statistics
import sys
import time

LIBRARIES = ("minirnn", "torch")
SOLVED, WINDOW, SEQUENCES, MOST_UPDATES = 0.01, 50, 1000, 20_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_adding", description=__doc__.splitlines()[0])
    parser.add_argument("--with", dest="library", choices=LIBRARIES, required=True)
    parser.add_argument("--steps-in-time", type=int, default=100, metavar="T")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.perf_counter()
    if options.library == "torch":
        import torch  # noqa: F401  here, so that what it takes is known
    else:
        import minirnn  # noqa: F401
    imported = time.perf_counter()
    updates, mse = learn(options.library, options.steps_in_time, options.seed, options.threads)
    seconds = {"seconds to import": imported - begin, "seconds to learn": time.perf_counter() - imported}
    print(json.dumps({"updates": updates, "held-out mean squared error": mse, **seconds}))
    return 0 if mse < SOLVED else 1


def learn(library: str, T: int, seed: int, threads: int) -> tuple[int, float]:
    """Return how many updates were made, and the mean squared error on held-out sequences."""
    import numpy as np

    from benchmarks import adding, learners

    for_model, for_data = np.random.default_rng(seed).spawn(2)
    learner = learners.MAKE[library](learners.Job(adding.start(for_model)), threads)
    x_held_out, y_held_out = adding.held_out(T, SEQUENCES, seed)
    losses, mse = [], float("inf")
    while len(losses) < MOST_UPDATES and not mse < SOLVED:
        losses.append(learner.update(*adding.batch(T, adding.N, for_data)))
        if len(losses) % WINDOW == 0 and statistics.fmean(losses[-WINDOW:]) < SOLVED:
            mse = float(np.mean((learner.predict(x_held_out) - y_held_out) ** 2))
    return len(losses), mse


if __name__ == "__main__":
    sys.exit(main())
