"""Reber's grammar, and the same embedded in a frame that only memory can close."""

from typing import ClassVar

import numpy as np

from minirnn.arguments import Array
from minirnn.tasks.base import Batch, Defaults, Ids, SequenceTask, one_hot

SYMBOLS = "BTPSXVE"
Automaton = dict[str, tuple[tuple[str, str], ...]]

REBER: Automaton = {
    "0": (("T", "1"), ("P", "2")),
    "1": (("S", "1"), ("X", "3")),
    "2": (("T", "2"), ("V", "4")),
    "3": (("X", "2"), ("S", "5")),
    "4": (("P", "3"), ("V", "5")),
    "5": (("E", "end"),),
}
"""After the B: for each state the symbols that may follow, and the state that each leads to."""


EMBEDDED: Automaton = {
    "start": (("T", "T"), ("P", "P")),
    **{outer: (("B", outer + "0"),) for outer in "TP"},
    **{f"{o}{state}": tuple((symbol, o + to) for symbol, to in ways) for o in "TP" for state, ways in REBER.items()},
    **{outer + "end": ((outer, "last"),) for outer in "TP"},
    "last": (("E", "end"),),
}
"""B T … T E and B P … P E, where … is a string of `REBER`: its states are there twice, after the T and after the P."""


class _Tables:
    """An automaton as arrays; its first state is 0, its end the last one, which is never left."""

    def __init__(self, automaton: Automaton) -> None:
        number = {state: i for i, state in enumerate([*automaton, "end"])}
        self.end = number["end"]
        self.step = np.full((len(number), len(SYMBOLS)), -1)
        self.ways = np.zeros((len(number), 2), np.int64)
        """The one or two symbols of a state, the one twice, so that a fair bit chooses."""
        for state, ways in automaton.items():
            for symbol, to in ways:
                self.step[number[state], SYMBOLS.index(symbol)] = number[to]
            self.ways[number[state]] = [SYMBOLS.index(ways[i][0]) for i in (0, -1)]
        self.step[self.end] = self.end
        self.legal = self.step >= 0

    def draw(self, N: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """Draw N strings without their first B: ids (T, N), 0 past the end, and lengths (N,)."""
        state, lengths, steps = np.zeros(N, np.int64), np.zeros(N, np.int64), []
        while (running := state != self.end).any():
            symbol = self.ways[state, rng.integers(2, size=N)]
            steps.append(symbol)
            lengths += running
            state = self.step[state, symbol]
        return np.array(steps), lengths


class ReberTask(
    SequenceTask,
    name="reber",
    description="say which symbols may follow in a string of Reber's grammar",
    source="Reber 1967; Cleeremans, Servan-Schreiber & McClelland 1989",
    rule="fewer than 1 % of the strings wrong anywhere (from the present symbol alone: 87.5 %)",
    metric="share of strings wrong",
    kind="classification",
    readout="all",
    defaults=Defaults(cell="lstm", hidden=32, batch=32, init="orthogonal", lr=1e-2, max_updates=5_000),
    input_size=len(SYMBOLS),
    output_size=len(SYMBOLS),
    baseline=7 / 8,
    goal=0.01,
):
    """Read a string of Reber's grammar symbol by symbol; at every symbol, say which may come next.

    The grammar's graph is `REBER`; where two symbols may follow, each does with probability 1/2. x is one-hot
    (T, N, 7), in the order B T P S X V E, without the last symbol, the E; y (T, N) are the ids of the next symbols,
    so that cross entropy trains towards the probabilities. Rows differ in length; T is the largest of the batch.

    Judged by the **share of strings wrong**: a string is right when at every step the symbols that may follow, one or
    two, have larger scores than all others. Who knows the present symbol only can get no string right but B T X S E,
    which is one in eight (two contexts of T, P, S, X and V exclude each other): the ``baseline`` is 7/8.

    Source: Reber 1967, "Implicit learning of artificial grammars"; as a task for recurrent nets Cleeremans,
    Servan-Schreiber & McClelland 1989, "Finite state automata and simple recurrent networks".

    >>> x, y, lengths = ReberTask().batch(3, rng=1)
    >>> ["B" + "".join(SYMBOLS[i] for i in y[: lengths[n], n]) for n in range(3)]
    ['BTXSE', 'BPTVVE', 'BPTTTTVVE']
    """

    settings = ()
    tables: ClassVar[_Tables] = _Tables(REBER)

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        y, lengths = self.tables.draw(N, rng)
        x = one_hot(np.vstack([np.full((1, N), SYMBOLS.index("B")), y[:-1]]), self.input_size)
        x[np.arange(len(y))[:, None] >= lengths] = 0
        return x, y, lengths

    def legal(self, y: Ids, lengths: Ids | None = None) -> Array:
        """Say which symbols may stand at each step of the strings y (T, N): bool (T, N, 7), True past the end.

        ValueError when y are no strings of the grammar.
        """
        state, steps = np.zeros(y.shape[1], np.int64), []
        ends = np.full(y.shape[1], len(y)) if lengths is None else np.asarray(lengths)
        for t, symbol in enumerate(y):
            state[t >= ends] = self.tables.end
            steps.append(self.tables.legal[state])
            state = self.tables.step[state, symbol]
            if (state < 0).any():
                n = int(np.flatnonzero(state < 0)[0])
                raise ValueError(
                    f"{type(self).__name__}: y must be strings of the grammar, got {SYMBOLS[symbol[n]]!r} at step {t} "
                    f"of row {n}, where it may not stand: pass y and lengths as the task gave them"
                )
        return np.array(steps)

    def _figure(self, predictions: Array, y: Array, counting: Array) -> float:
        legal = self.legal(y, counting.sum(axis=0))
        lowest = np.where(legal, predictions, np.inf).min(axis=-1)
        highest = np.where(legal, -np.inf, predictions).max(axis=-1)
        return float(1 - ((lowest > highest) | ~counting).all(axis=0).mean())


class EmbeddedReberTask(
    ReberTask,
    name="embedded-reber",
    description="say which symbols may follow in strings that must end as they began, with T or P",
    source="Cleeremans et al. 1989; Hochreiter & Schmidhuber 1997, experiment 1",
    rule="fewer than 1 % of the strings wrong anywhere (from the present symbol alone: all)",
    baseline=1.0,
):
    """As `ReberTask`, with strings B T … T E and B P … P E, where … is a string of Reber's grammar.

    The last symbol but one is the second one again, however long the string between: that has to be remembered. Who
    knows the present symbol only gets no string right, since T (or P) is followed by B the first time and by E the
    last: the ``baseline`` is 1.

    Source: Cleeremans, Servan-Schreiber & McClelland 1989, "Finite state automata and simple recurrent networks";
    Hochreiter & Schmidhuber 1997, "Long short-term memory", experiment 1.
    """

    tables = _Tables(EMBEDDED)
