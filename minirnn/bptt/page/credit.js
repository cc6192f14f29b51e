// The credit matrix: rows s, where a gradient enters; columns k, where it reaches the weights.

const MARGIN = { left: 46, top: 8, right: 8, bottom: 40 };
const [CREDIT_LO, CREDIT_HI] = CREDIT ? creditRange() : [1, 1];
const LEVELS_OF_CREDIT = CREDIT ? creditLevels() : null; // by (s, k): 0 for zero, 255 for NaN and inf, else 1 … 254
const SHOWN_ROWS = CREDIT ? creditRows() : []; // the steps s that have a row
let matrix = null; // one pixel for each pair

function creditRange() {
  const [lo, hi] = range(CREDIT.norms);
  return [Math.max(lo, hi * 1e-12), hi];
}

function creditLevels() {
  const levelOf = (v) => (Number.isFinite(v) ? 1 + Math.round(253 * logPart(v, CREDIT_LO, CREDIT_HI)) : 255);
  const values = steps.flatMap((s) => steps.map((k) => credit(s, k)));
  return Uint8Array.from(values, (v) => (v === 0 ? 0 : levelOf(v)));
}

/** Return the rows to show: all of them, or those with a loss, if they are so few that they would be thin lines. */
function creditRows() {
  const some = steps.filter((s) => LEVELS_OF_CREDIT.subarray(s * T, (s + 1) * T).some((v) => v > 0));
  return some.length && some.length <= T / 8 ? some : steps;
}

/** Paint the matrix, one pixel for each pair; what truncation cuts off is grey. */
function paintMatrix() {
  matrix ??= element("canvas");
  matrix.width = T;
  matrix.height = SHOWN_ROWS.length;
  const g = matrix.getContext("2d"), image = g.createImageData(T, SHOWN_ROWS.length);
  const colours = Array.from({ length: 256 }, (_, i) => sequential((i - 1) / 253));
  colours[255] = bytesOf(INK["not-finite"]);
  const [light, dark] = [bytesOf(INK.faint), bytesOf(INK.cut)];
  colours[0] = light;
  SHOWN_ROWS.forEach((s, i) => {
    for (let k = 0; k < T; k++) {
      const back = lag(s, k), found = LEVELS_OF_CREDIT[s * T + k];
      if (back < 0) continue; // the weights are used after the gradient has entered
      const colour = back >= state.k2 ? mix(light, dark, found / 255) : colours[found];
      image.data.set([...colour, 255], 4 * (i * T + k));
    }
  });
  g.putImageData(image, 0, 0);
}

function matrixBox() {
  const canvas = byId("credit"), width = byId("credit-box").clientWidth;
  const side = width - MARGIN.left - MARGIN.right;
  const rows = SHOWN_ROWS.length, cell = side / T;
  const tall = rows === T ? cell : Math.min(48, 240 / rows); // of a row
  return { canvas, width, height: rows * tall + MARGIN.top + MARGIN.bottom, side, foot: rows * tall, cell, tall };
}

function drawCredit() {
  const box = matrixBox(), { canvas, width, height, side, foot } = box;
  const g = fit(canvas, height);
  g.clearRect(0, 0, width, height);
  g.save();
  g.translate(MARGIN.left, MARGIN.top);
  g.imageSmoothingEnabled = false;
  g.drawImage(matrix, 0, 0, side, foot);
  drawCut(g, box);
  drawChosen(g, box);
  g.strokeStyle = INK.line;
  g.lineWidth = 1;
  g.strokeRect(0.5, 0.5, side - 1, foot - 1);
  drawAxes(g, box);
  g.restore();
}

/** Draw the border between what is kept and what is cut: |s − k| = k2. */
function drawCut(g, { cell, tall }) {
  const border = SHOWN_ROWS.map((s, i) => [reverse ? s + state.k2 : s - state.k2 + 1, i]).filter(([k]) => k > 0 && k < T);
  polyline(g, border.flatMap(([k, i]) => [[k * cell, i * tall], [k * cell, (i + 1) * tall]]), INK.ink, 1.5);
}

/** Outline what is chosen, with its way: along the row s from the diagonal back to k. */
function drawChosen(g, { cell, tall, foot }) {
  const outline = ({ s, k }, colour, width) => {
    const [w, h] = [Math.max(cell, 5), Math.max(tall, 5)], i = SHOWN_ROWS.indexOf(s);
    g.strokeStyle = colour;
    g.lineWidth = width;
    g.strokeRect(k * cell - (w - cell) / 2, i * tall - (h - tall) / 2, w, h);
  };
  const t = (now() + 0.5) * cell;
  polyline(g, [[t, 0], [t, foot]], INK.muted, 1, 0.6);
  if (state.path) {
    const { s, k } = state.path, y = (SHOWN_ROWS.indexOf(s) + 0.5) * tall;
    polyline(g, [[(s + 0.5) * cell, y], [(k + 0.5) * cell, y]], INK.path, Math.max(1.5, Math.min(4, cell / 3)));
    outline(state.path, INK.path, 3);
  }
  if (state.cursor) outline(state.cursor, INK.ink, 2);
}

function drawAxes(g, { cell, tall, side, foot }) {
  for (const t of ticksOf(T, side / 44)) write(g, String(t), (t + 0.5) * cell, foot + 11);
  for (const i of ticksOf(SHOWN_ROWS.length, Math.max(1, foot / 30)))
    write(g, String(SHOWN_ROWS[i]), -6, (i + 0.5) * tall, { align: "right" });
  write(g, "k, where it reaches the weights", side / 2, foot + 29);
  if (foot < 130) return write(g, "s", -38, foot / 2);
  g.save();
  g.translate(-38, foot / 2);
  g.rotate(-Math.PI / 2);
  write(g, "s, where it enters", 0, 0);
  g.restore();
}

/** Return at most about `most` round numbers from 0 on, below n. */
function ticksOf(n, most) {
  const step = [1, 2, 5, 10, 20, 25, 50, 100, 200].find((d) => n / d <= most) ?? 500;
  return Array.from({ length: Math.ceil(n / step) }, (_, i) => i * step);
}

function drawScale() {
  const canvas = byId("credit-scale"), g = fit(canvas), shade = g.createLinearGradient(0, 0, canvas.clientWidth, 0);
  for (let i = 0; i <= 9; i++) shade.addColorStop(i / 9, `rgb(${sequential(i / 9)})`);
  g.fillStyle = shade;
  g.fillRect(0, 0, canvas.clientWidth, 12);
  if (!CREDIT.norms.some((v) => v > 0 && v < Infinity)) {
    canvas.hidden = true;
    byId("credit-ticks").textContent = "No pair has a credit that is a number above zero.";
    return;
  }
  const below = range(CREDIT.norms)[0] < CREDIT_LO ? "≤ " : "";
  const ticks = [`${below}${number(CREDIT_LO)}`, number(Math.sqrt(CREDIT_LO) * Math.sqrt(CREDIT_HI)), number(CREDIT_HI)];
  byId("credit-ticks").replaceChildren(...ticks.map((text) => element("span", "", text)));
}

// --- reading

/** Say what a pair of steps means. */
function creditText({ s, k }) {
  const back = lag(s, k);
  if (back < 0) return `s = ${s}, k = ${k}: nothing. Step ${k} comes after the output of step ${s}.`;
  const way = back === 0 ? "at once" : back === 1 ? "one step back" : `${back} steps back`;
  const cut = back >= state.k2 ? ` Cut off by k2 = ${state.k2}.` : "";
  const value = credit(s, k);
  const nothing = value === 0 && order(k) === 0 ? " W_hh is multiplied with the initial state here, which is zero." : "";
  const part = value === 0 ? "" : `, ${percent(value, CREDIT_HI)} of the largest`;
  return `s = ${s}, k = ${k}: ${number(value)}${part}; ${way}.${nothing}${cut}`;
}

function showCredit() {
  const chosen = state.cursor ?? state.path;
  const few = SHOWN_ROWS.length < T ? " Only outputs that the loss looks at have a row." : "";
  byId("credit-read").textContent = chosen
    ? creditText(chosen)
    : `Point at a pair to read it, click to follow its path through the network.${few}`;
}

function showCut() {
  const { k2 } = state, whole = CREDIT.whole[0], left = CREDIT.left[k2 - 1], angle = CREDIT.angles[k2 - 1];
  byId("k2-value").textContent = `k2 = ${k2} of ${T}`;
  const away = Number.isNaN(angle) ? "has no direction" : `points ${number(angle)}° away from the true one`;
  const size = `norm ${number(left)} of ${number(whole)} (${percent(left, whole)})`;
  byId("cut-read").textContent =
    k2 >= T ? `Nothing is cut: the true gradient, norm ${number(whole)}.` : `The truncated gradient ${away}; ${size}.`;
  byId("k2").setAttribute("aria-valuetext", `${k2} steps: ${byId("cut-read").textContent}`);
}

// --- pointing and keys

function pairUnder(event) {
  const { canvas, cell, tall } = matrixBox(), box = canvas.getBoundingClientRect();
  const k = Math.floor((event.clientX - box.left - MARGIN.left) / cell);
  const s = SHOWN_ROWS[Math.floor((event.clientY - box.top - MARGIN.top) / tall)];
  return s !== undefined && isStep(k) ? { s, k } : null;
}

/** Follow a pair: its path is lit, and the network goes to step k on the way back. */
function follow(pair) {
  if (!pair || lag(pair.s, pair.k) < 0) return;
  choose({ path: pair, cursor: pair, playing: false });
  moveTo(backwardAt(pair.k));
}

function creditKey(event) {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const last = reverse ? SHOWN_ROWS[0] : SHOWN_ROWS[SHOWN_ROWS.length - 1];
  const from = state.cursor ?? state.path ?? { s: last, k: now() };
  if (event.key in moves) {
    const [down, right] = moves[event.key], inside = (v, n) => Math.max(0, Math.min(n - 1, v));
    const i = inside(SHOWN_ROWS.indexOf(from.s) + down, SHOWN_ROWS.length);
    choose({ cursor: { s: SHOWN_ROWS[i], k: inside(from.k + right, T) } });
  } else if (event.key === "Enter") follow(from);
  else if (event.key === "Escape") choose({ cursor: null, path: null });
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function setUpCredit() {
  if (!CREDIT) {
    byId("credit-body").hidden = true;
    byId("credit-missing").hidden = false;
    byId("credit-missing").textContent = DATA.credit.missing;
    return;
  }
  const { canvas } = matrixBox(), slider = byId("k2");
  slider.max = T;
  slider.value = T;
  slider.addEventListener("input", () => choose({ k2: Number(slider.value) }));
  canvas.addEventListener("pointermove", (event) => {
    const pair = pairUnder(event);
    if (pair?.s !== state.cursor?.s || pair?.k !== state.cursor?.k) choose({ cursor: pair });
    if (pair && lag(pair.s, pair.k) >= 0) showTip(`s = ${pair.s}, k = ${pair.k}\n${number(credit(pair.s, pair.k))}`, event);
    else hideTip();
  });
  canvas.addEventListener("pointerleave", () => {
    hideTip();
    choose({ cursor: null });
  });
  canvas.addEventListener("click", (event) => follow(pairUnder(event)));
  canvas.addEventListener("keydown", creditKey);
  when(["k2"], paintMatrix);
  when(["p", "k2", "path", "cursor"], drawCredit);
  when(["path", "cursor", "k2"], showCredit);
  when(["k2"], showCut);
  when(["row"], drawScale);
}
