// What the reader has chosen, and who redraws when it changes.

const state = {
  p: Math.min(Number(CHOSEN.get("p") ?? T), 2 * T - 1), // at first where the gradient starts; 0 … T−1 forward, T … 2T−1 backward, both in the order of processing
  row: Math.min(Number(CHOSEN.get("row") ?? 0), ROWS.length - 1), // among the rows that travel
  k2: T, // the truncation
  path: null, // {s, k}: chosen in the credit matrix
  cursor: null, // {s, k}: pointed at there
  playing: false,
  speed: 1,
};
const listeners = [];
const pending = new Set();

const LAST = 2 * T - 1;
const isBackward = () => state.p >= T;
const orderNow = () => (isBackward() ? LAST - state.p : state.p);
const now = () => order(orderNow()); // the step t
const backwardAt = (t) => LAST - order(t);

const STILL = matchMedia("(prefers-reduced-motion: reduce)").matches;
/** Return how long a step takes while playing, in ms: the whole story in about 16 s, if T allows. */
const pace = () => Math.max(60, Math.min(700, 16000 / (2 * T))) / state.speed;

/** Say what to do when one of some choices changes. */
function when(names, redraw) {
  listeners.push([names, redraw]);
}

/** Change choices; all that depends on them is redrawn once, in the next frame. */
function choose(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (state[name] !== value) {
      state[name] = value;
      pending.add(name);
    }
  }
  if (pending.size) requestAnimationFrame(redraw);
}

function redraw() {
  if (!pending.size) return;
  const changed = new Set(pending);
  pending.clear();
  for (const [names, f] of listeners) if (names.some((name) => changed.has(name))) f(changed);
}

/** Redraw all: the colours or the size of the window have changed. */
function redrawAll() {
  for (const [, f] of listeners) f(new Set(Object.keys(state)));
}

/** Move the slider to a place, within its ends. */
const moveTo = (p) => choose({ p: Math.max(0, Math.min(LAST, p)) });

/** Go to step t in the phase that is shown. */
const goTo = (t) => moveTo(isBackward() ? backwardAt(t) : order(t));
