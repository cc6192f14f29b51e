// The numbers of the trace. Steps t are in time order; k, where it says so, in the order of processing.

const ALL = JSON.parse(byId("data").textContent);
const RUN = ALL.run ?? null; // of a training: how it went, and where the traces of `moments` were taken
const CHOSEN = new URLSearchParams(location.hash.slice(1)); // by `goToMoment`
const MOMENT = RUN ? Math.min(Number(CHOSEN.get("moment") ?? Infinity), ALL.moments.length - 1) : 0;
const DATA = RUN ? ALL.moments[MOMENT] : ALL;
const ABOUT = DATA.about;
const { T, N, D, H, reverse } = ABOUT;
const ROWS = ABOUT.rows;
const NOT_FINITE = -128; // the code of NaN and inf among values rounded to 8 bits

/** Read an array that travelled as base64. */
function unpack(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const kinds = { f8: Float64Array, f4: Float32Array, i1: Int8Array, u1: Uint8Array, u2: Uint16Array };
  return new kinds[packed.type](bytes.buffer);
}

/** Read an array whose last axis is a vector: (…indices) -> Float64Array. */
function vectors(packed) {
  const values = unpack(packed);
  const scale = packed.scale ? unpack(packed.scale) : null;
  const shape = packed.shape;
  const width = shape[shape.length - 1];
  return (...at) => {
    let i = 0;
    at.forEach((index, axis) => (i = i * shape[axis] + index));
    const found = Float64Array.from(values.subarray(i * width, (i + 1) * width));
    if (!scale) return found;
    return found.map((code) => (code === NOT_FINITE ? NaN : code * scale[i]));
  };
}

/** Read an array (T, rows): (t, row) -> number. */
function byRow(packed) {
  const values = unpack(packed);
  return (t, row) => values[t * ROWS.length + row];
}

const mapValues = (object, f) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, f(value)]));

const UNIT_NAMES = ["x", "h", "dh", "local", "carried", "c", "dc"].filter((name) => DATA.units[name]);
const UNITS = Object.fromEntries(UNIT_NAMES.map((name) => [name, vectors(DATA.units[name])]));
const INITIAL = DATA.units.initial.map(vectors);
const VALID = unpack(DATA.units.valid);
const NORMS = mapValues(DATA.state_norms.by_row, byRow);
const TOGETHER = mapValues(DATA.state_norms.together, unpack);
const SHARES = mapValues(DATA.weights.by_step, unpack);
const TOTALS = mapValues(DATA.weights.total, (packed) => unpack(packed)[0]);
const SO_FAR = unpack(DATA.weights.so_far);
const PICTURES = vectors(DATA.weights.pictures);
const SHOWN = DATA.units.h.shape[2]; // how many of the H neurons travel
const SHOWN_INPUTS = DATA.units.x.shape[2];

const valid = (t, row) => VALID[t * ROWS.length + row] === 1;
const order = (t) => (reverse ? T - 1 - t : t); // and back: it is its own inverse
const before = (t) => (reverse ? t + 1 : t - 1); // the step whose state step t reads
const after = (t) => (reverse ? t - 1 : t + 1);
const isStep = (t) => t >= 0 && t < T;
const steps = Array.from({ length: T }, (_, t) => t);

// --- credit and truncation

const CREDIT = DATA.credit.missing ? null : mapValues(DATA.credit, unpack);

/** Return the norm of what enters at s and reaches W_hh at k. */
function credit(s, k) {
  const i = order(s), j = order(k);
  return j > i ? 0 : CREDIT.norms[(i * (i + 1)) / 2 + j];
}

const lag = (s, k) => order(s) - order(k);

/** Return which part of what is carried into step t is left when gradients go back k2 steps only: 0 … 1, of norms. */
function keptOf(k2) {
  const kept = new Float64Array(T).fill(1);
  if (!CREDIT || k2 >= T) return kept;
  const entering = (s) => TOGETHER.local[order(s)]; // where W_hh meets a state of zeros no credit is left to weigh
  const sum = (norm, first, last) => steps.slice(first, last).reduce((total, s) => total + norm(s) ** 2, 0);
  for (let k = 0; k < T; k++) {
    const credits = (s) => CREDIT.norms[(s * (s + 1)) / 2 + k];
    const norm = [credits, entering].find((of) => sum(of, k + 1) > 0);
    if (norm) kept[order(k)] = Math.sqrt(sum(norm, k + 1, k + k2) / sum(norm, k + 1));
  }
  return kept;
}

/** Return the least positive and the largest number of some, both finite; [1, 1] if there is none. */
function range(values) {
  let lo = Infinity, hi = 0;
  for (const v of values) if (v > 0 && v < Infinity) [lo, hi] = [Math.min(lo, v), Math.max(hi, v)];
  return hi > 0 ? [lo, hi] : [1, 1];
}
