// The unrolled network, on one canvas: states as cells; what flows between them is in arrows.js. Only the columns in
// sight are drawn.

const CELLS = UNITS.c ? ["h", "c"] : ["h"]; // from above; c is made first, and h of it
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const ITALIC = 'italic 14px "STIX Two Text", Cambria, Georgia, serif';
const [SHARE_LO, SHARE_HI] = decades(SHARES.W_hh);
const LARGEST = largestOf(); // of h, c and x, for their colours: one scale for all steps
const hasLoss = steps.map((t) => ROWS.some((_, r) => NORMS.local(t, r) !== 0));
let geometry = null;
let camera = null;
let kept = keptOf(T);
let started = -Infinity; // when the present step began to be shown
let begun = null; // which step that is
let drawing = false;

/** Return the ends of a scale of sizes: at least four decades, so that what hardly shrinks looks so, and at most ten. */
function decades(norms) {
  const [lo, hi] = range(norms);
  return [Math.max(Math.min(lo, hi * 1e-4), hi * 1e-10), hi];
}

function largestOf() {
  const ofAll = (name) => largest(steps.map((t) => largest(ROWS.map((_, r) => largest(UNITS[name](t, r))))));
  return Object.fromEntries([...CELLS, "x"].map((name) => [name, ofAll(name)]));
}

/** Return where a number lies between two others on a logarithmic scale, 0 … 1. */
function logPart(value, lo, hi) {
  return hi > lo ? Math.max(0, Math.min(1, Math.log(value / lo) / Math.log(hi / lo))) : 1;
}

/** Place n cells in columns, in a grid at most `height` high and 64 px wide; a cell is 3 px wide, or up to `most`. */
function gridOf(n, columns, most, height = Infinity) {
  const rows = Math.ceil(n / columns);
  const size = Math.max(3, Math.floor(Math.min(most, height / rows, 64 / columns)));
  return { columns, rows, size, width: columns * size, height: rows * size, n };
}

/** Place everything; y downwards, in CSS pixels. */
function place() {
  const width = byId("network-box").clientWidth;
  const grid = gridOf(SHOWN, SHOWN <= 12 ? 1 : Math.ceil(SHOWN / 16), 18, CELLS.length > 1 ? 104 : 136);
  const columns = SHOWN_INPUTS <= 6 ? SHOWN_INPUTS : Math.min(16, Math.ceil(Math.sqrt(SHOWN_INPUTS * 2)));
  const inputs = gridOf(SHOWN_INPUTS, columns, 13);
  const gutter = width < 480 ? 38 : 48;
  const wide = Math.max(grid.width, inputs.width, 20);
  const even = (width - gutter) / (T + 1); // all columns side by side, if they are not too narrow
  const pitch = even >= wide + 36 ? Math.min(150, even) : wide + 66;
  const y = { loss: 20, h: 74 };
  y.c = y.h + grid.height + 30;
  y.x = y[CELLS[CELLS.length - 1]] + grid.height + 44;
  y.t = y.x + inputs.height + 16;
  y.share = y.t + 62; // the foot of the bars
  return { width, height: y.share + 8, grid, inputs, gutter, pitch, y, total: (T + 1) * pitch };
}

/** Return the middle of step t's column; the initial state has one too, at −1, or T in reverse. */
function xOf(t) {
  const G = geometry;
  return G.gutter + (reverse ? t : t + 1) * G.pitch + G.pitch / 2 - camera;
}

function cameraTarget() {
  const G = geometry, free = G.width - G.gutter;
  if (G.total <= free) return (G.total - free) / 2;
  const middle = (reverse ? now() : now() + 1) * G.pitch + G.pitch / 2;
  return Math.max(0, Math.min(G.total - free, middle - free / 2));
}

function inSight() {
  const G = geometry, shift = reverse ? 0 : -1;
  const first = Math.floor(camera / G.pitch) + shift, last = Math.ceil((camera + G.width) / G.pitch) + shift;
  return Array.from({ length: T + 1 }, (_, i) => i + shift).filter((t) => first <= t && t <= last);
}

// --- frames

/** Draw now, and go on for as long as something moves. */
function animate() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(frame);
}

function frame(time) {
  drawing = false;
  const target = cameraTarget();
  const near = STILL || camera === null || Math.abs(target - camera) < 0.5;
  camera = near ? target : camera + (target - camera) * 0.22;
  if (started === null) started = time;
  const u = STILL ? 1 : Math.min(1, (time - started) / Math.min(450, pace()));
  drawNetwork(u);
  if (!near || u < 1) animate();
}

function drawNetwork(u) {
  const canvas = byId("network"), G = geometry;
  const g = fit(canvas, G.height);
  g.clearRect(0, 0, G.width, G.height);
  g.save();
  g.beginPath();
  g.rect(G.gutter, 0, G.width - G.gutter, G.height);
  g.clip();
  const steps = inSight();
  if (state.path) drawPath(g);
  for (const t of steps) drawArrows(g, t);
  for (const t of steps) drawColumn(g, t, u);
  drawNumbers(g);
  drawFlow(g, u);
  fadeEnds(g);
  g.restore();
  drawLanes(g);
  canvas.dataset.t = now();
  canvas.dataset.phase = isBackward() ? "backward" : "forward";
  canvas.dataset.path = state.path ? `${state.path.s} ${state.path.k}` : "";
}

function drawLanes(g) {
  const G = geometry, y = G.y;
  write(g, "loss", 0, y.loss, { align: "left" });
  write(g, "step", 0, y.t, { align: "left" });
  write(g, "share", 0, y.share - 6, { align: "left", colour: isBackward() ? INK.share : INK.muted });
  const italic = { align: "left", colour: INK.ink, font: ITALIC };
  for (const name of CELLS) write(g, `${name}ₜ`, 0, middleOf(name), italic);
  write(g, "xₜ", 0, y.x + G.inputs.height / 2, italic);
  g.fillStyle = INK.line;
  g.fillRect(G.gutter, y.share, G.width - G.gutter, 1);
}

/** Let what goes on beyond the ends of the drawing fade out. */
function fadeEnds(g) {
  const G = geometry, wide = 34, hidden = G.total - (G.width - G.gutter);
  if (hidden <= 0) return;
  const fade = (x0, x1) => {
    const shade = g.createLinearGradient(x0, 0, x1, 0);
    shade.addColorStop(0, INK.card);
    shade.addColorStop(1, `${INK.card}00`);
    g.fillStyle = shade;
    g.fillRect(Math.min(x0, x1), 0, wide, G.height);
  };
  if (camera > 1) fade(G.gutter, G.gutter + wide);
  if (camera < hidden - 1) fade(G.width, G.width - wide);
}

// --- columns

const passed = (t) => isBackward() && order(t) >= orderNow();
const reached = (t) => isBackward() || order(t) <= orderNow();
const middleOf = (name) => geometry.y[name] + geometry.grid.height / 2;

function drawColumn(g, t, u) {
  const G = geometry, x = xOf(t), { row } = state;
  if (!isStep(t)) return drawInitial(g, x);
  const current = t === now();
  write(g, String(t), x, G.y.t, current ? { colour: INK.ink, font: `600 ${FONT}` } : {});
  if (!valid(t, row)) return drawPadding(g, x);
  for (const [i, name] of CELLS.entries()) {
    const going = passed(t);
    const shownNow = current && !going ? 0.15 + 0.85 * Math.max(0, 2 * u - 1) : 1;
    const alpha = !reached(t) ? 0 : going ? 1 : isBackward() ? 0.3 : shownNow;
    const values = going ? (i ? UNITS.dc?.(t, row) : UNITS.dh(t, row)) : UNITS[name](t, row);
    drawCells(g, G.grid, values, x, G.y[name], going ? largest(values) : LARGEST[name], alpha, current);
  }
  const inputs = UNITS.x(t, row);
  drawCells(g, G.inputs, inputs, x, G.y.x, LARGEST.x, !reached(t) ? 0 : isBackward() ? 0.3 : 1, current && !isBackward());
  if (hasLoss[t]) drawLoss(g, x, t);
  if (passed(t)) drawShare(g, x, t);
}

function largest(values) {
  let found = 0;
  for (const v of values ?? []) if (Number.isFinite(v)) found = Math.max(found, Math.abs(v));
  return found;
}

/** Draw the values of units as coloured cells, column by column. */
function drawCells(g, grid, values, x, y, scale, alpha, current) {
  const left = Math.round(x - grid.width / 2), gap = grid.size > 5 ? 1 : 0;
  g.fillStyle = INK.faint;
  g.fillRect(left, y, grid.width, grid.height);
  if (alpha > 0 && values) {
    g.globalAlpha = alpha;
    for (let i = 0; i < grid.n; i++) {
      const cx = left + Math.floor(i / grid.rows) * grid.size, cy = y + (i % grid.rows) * grid.size;
      g.fillStyle = signedColour(values[i], scale);
      g.fillRect(cx, cy, grid.size - gap, grid.size - gap);
    }
    g.globalAlpha = 1;
  }
  g.lineWidth = current ? 2.5 : 1;
  g.strokeStyle = current ? INK.ink : INK.cut;
  const out = current ? 2.5 : 0.5;
  g.strokeRect(left - out, y - out, grid.width - (gap ? 1 : 0) + 2 * out, grid.height - (gap ? 1 : 0) + 2 * out);
}

function drawInitial(g, x) {
  const G = geometry;
  for (const [i, name] of CELLS.entries())
    drawCells(g, G.grid, INITIAL[i](state.row), x, G.y[name], LARGEST[name], isBackward() ? 0.3 : 1, false);
  write(g, "initial", x, G.y.t);
}

function drawPadding(g, x) {
  const G = geometry, wide = Math.max(G.grid.width, G.inputs.width);
  hatch(g, x - wide / 2, G.y.h, wide, G.y.x + G.inputs.height - G.y.h, INK.cut);
  write(g, "padding", x, G.y.h - 12);
}

function drawLoss(g, x, t) {
  const y = geometry.y.loss, r = 8, diamond = [[x, y - r], [x + r, y], [x, y + r], [x - r, y], [x, y - r], [x + r, y]];
  polygon(g, diamond, reached(t) ? INK.local : INK.card);
  polyline(g, diamond, reached(t) ? INK.local : INK.cut, 1.5);
}

function drawShare(g, x, t) {
  const share = SHARES.W_hh[t], foot = geometry.y.share;
  if (share === 0) return;
  const height = Number.isFinite(share) ? 4 + 36 * logPart(share, SHARE_LO, SHARE_HI) : 40;
  g.fillStyle = Number.isFinite(share) ? INK["share-fill"] : INK["not-finite"];
  g.globalAlpha = t === now() ? 1 : 0.55;
  g.fillRect(x - 9, foot - height, 18, height);
  g.globalAlpha = 1;
}

// --- pointing

/** Return what is under the pointer: the step, and the unit's name and value if there is one. */
function under(event) {
  const box = byId("network").getBoundingClientRect(), G = geometry;
  const px = event.clientX - box.left, py = event.clientY - box.top;
  const column = Math.floor((px - G.gutter + camera) / G.pitch);
  const t = reverse ? column : column - 1;
  if (px < G.gutter || !isStep(t)) return null;
  for (const name of [...CELLS, "x"]) {
    const grid = name === "x" ? G.inputs : G.grid;
    const i = Math.floor((px - xOf(t) + grid.width / 2) / grid.size), j = Math.floor((py - G.y[name]) / grid.size);
    const unit = i * grid.rows + j;
    if (i >= 0 && i < grid.columns && j >= 0 && j < grid.rows && unit < grid.n) return { t, name, unit };
  }
  return { t };
}

/** Say the values of a unit. */
function unitText({ t, name, unit }) {
  const { row } = state, about = DATA.units.rounded ? " ≈ " : " = ";
  if (!valid(t, row)) return `step ${t}: padding of row ${ROWS[row]}`;
  const said = [`${name}${sub(t)}[${unit}]${about}${number(UNITS[name](t, row)[unit])}`];
  if (name === "h") {
    said.push(`dL/dh${sub(t)}[${unit}]${about}${number(UNITS.dh(t, row)[unit])}`);
    said.push(`  local ${number(UNITS.local(t, row)[unit])}, carried ${number(UNITS.carried(t, row)[unit])}`);
  }
  if (name === "c" && UNITS.dc) said.push(`dL/dc${sub(t)}[${unit}]${about}${number(UNITS.dc(t, row)[unit])}`);
  return said.join("\n");
}

function setUpNetwork() {
  const canvas = byId("network");
  canvas.addEventListener("click", (event) => {
    const found = under(event);
    if (found) goTo(found.t);
  });
  canvas.addEventListener("pointermove", (event) => {
    const found = under(event);
    if (!found || found.unit === undefined) hideTip();
    else showTip(unitText(found), event);
  });
  canvas.addEventListener("pointerleave", hideTip);
  when(["p", "row", "k2", "path"], (changed) => {
    geometry = place();
    if (changed.has("k2")) kept = keptOf(state.k2);
    if (begun !== state.p) [begun, started] = [state.p, null];
    canvas.setAttribute("aria-label", `The unrolled network: ${byId("now").textContent}`);
    animate();
  });
}
