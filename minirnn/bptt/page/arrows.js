// What flows in the network: arrows as thick as gradients are long, the dots along them, their numbers.

const [ARROW_LO, ARROW_HI] = arrowRange();

function arrowRange() {
  const kinds = [NORMS.local, NORMS.carried, NORMS.carried_c].filter(Boolean);
  return decades(kinds.flatMap((norm) => steps.flatMap((t) => ROWS.map((_, r) => norm(t, r)))));
}

/** Return how thick the arrow of a norm is: logarithmic, 2 … 13 px; none for zero. */
function thickness(norm) {
  if (norm === 0) return 0;
  if (!Number.isFinite(norm)) return 13;
  return 2 + 11 * logPart(norm, ARROW_LO, ARROW_HI);
}

function arrow(g, x0, y0, x1, y1, width, colour) {
  if (width <= 0) return;
  const length = Math.hypot(x1 - x0, y1 - y0), head = Math.min(length, 5 + width * 0.9), half = 3.2 + width * 0.72;
  g.save();
  g.translate(x0, y0);
  g.rotate(Math.atan2(y1 - y0, x1 - x0));
  const neck = length - head, w = width / 2;
  polygon(g, [[0, -w], [neck, -w], [neck, -half], [length, 0], [neck, half], [neck, w], [0, w]], colour);
  g.restore();
}

/** Return the ends of the arrow between two neighbouring columns, away from their cells. */
function between(from, to) {
  const side = Math.sign(xOf(to) - xOf(from)), free = geometry.grid.width / 2 + 7;
  return [xOf(from) + side * free, xOf(to) - side * free];
}

function upward(t) {
  const G = geometry, x = xOf(t), foot = CELLS[CELLS.length - 1];
  const found = [[x, G.y.x - 6, x, G.y[foot] + G.grid.height + 6]];
  if (CELLS.length > 1) found.push([x, G.y.c - 5, x, G.y.h + G.grid.height + 5]);
  return found;
}

function drawArrows(g, t) {
  const { row } = state;
  if (!isStep(t) || !valid(t, row)) return;
  const current = t === now(), x = xOf(t), top = geometry.y.h - 6, loss = geometry.y.loss + 12;
  if (!passed(t)) {
    const colour = current ? INK.ink : reached(t) && !isBackward() ? INK.muted : INK.cut;
    for (const line of upward(t)) arrow(g, ...line, current ? 2.5 : 1.2, colour);
    const [x0, x1] = between(before(t), t);
    for (const name of CELLS) arrow(g, x0, middleOf(name), x1, middleOf(name), current ? 2.5 : 1.2, colour);
    if (hasLoss[t]) arrow(g, x, top, x, loss, current ? 2.5 : 1.2, colour);
    return;
  }
  g.globalAlpha = current ? 1 : 0.7;
  arrow(g, x, loss, x, top, thickness(NORMS.local(t, row)), tone(NORMS.local(t, row), INK.local));
  if (isStep(after(t)) && valid(after(t), row)) drawCarried(g, t);
  g.globalAlpha = 1;
  if (SHARES.W_hh[t] !== 0) drawDrop(g, t);
}

const tone = (norm, colour) => (Number.isFinite(norm) ? colour : INK["not-finite"]);

/** What is carried into step t from the step after it; grey is what truncation cuts off. */
function drawCarried(g, t) {
  const [x0, x1] = between(after(t), t), y = middleOf("h"), full = thickness(NORMS.carried(t, state.row));
  if (CELLS.length > 1) {
    const throughC = thickness(NORMS.carried_c(t, state.row)), yc = middleOf("c");
    if (kept[t] < 1) arrow(g, x0, yc, x1, yc, throughC, INK.cut);
    arrow(g, x0, yc, x1, yc, throughC * kept[t], INK.carried);
  }
  if (kept[t] < 1) arrow(g, x0, y, x1, y, full, INK.cut);
  arrow(g, x0, y, x1, y, full * kept[t], tone(NORMS.carried(t, state.row), INK.carried));
}

function drawDrop(g, t) {
  const G = geometry, foot = CELLS[CELLS.length - 1], x = xOf(t), current = t === now();
  g.globalAlpha = current ? 1 : 0.35;
  arrow(g, x, G.y[foot] + G.grid.height + 6, x, G.y.x - 6, current ? 3 : 1.5, INK["share-fill"]);
  g.globalAlpha = 1;
}

/** Let dots run along the arrows of the present step: values in, or gradients in and the share out. */
function drawFlow(g, u) {
  const t = now(), { row } = state;
  if (u >= 1 || !valid(t, row)) return;
  const along = (x0, y0, x1, y1, v, colour) => {
    if (v <= 0 || v >= 1) return;
    g.fillStyle = colour;
    g.beginPath();
    g.arc(x0 + (x1 - x0) * v, y0 + (y1 - y0) * v, 5, 0, 2 * Math.PI);
    g.fill();
  };
  const first = Math.min(1, 2 * u), G = geometry, x = xOf(t), y = middleOf("h");
  if (!isBackward()) {
    for (const line of upward(t)) along(...line, first, INK.ink);
    const [x0, x1] = between(before(t), t);
    along(x0, y, x1, y, first, INK.ink);
    return;
  }
  if (NORMS.local(t, row) !== 0) along(x, G.y.loss, x, G.y.h, first, INK.local);
  if (isStep(after(t)) && NORMS.carried(t, row) !== 0) {
    const [x0, x1] = between(after(t), t);
    along(x0, y, x1, y, first, INK.carried);
  }
  if (SHARES.W_hh[t] !== 0) along(x, G.y.x - 40, x, G.y.share - 20, 2 * u - 1, INK["share-fill"]);
}

/** Draw the way of one credit: from the loss at s back to the weights at step k. */
function drawPath(g) {
  const { s, k } = state.path, y = middleOf("h"), { loss, share } = geometry.y;
  g.lineJoin = g.lineCap = "round";
  polyline(g, [[xOf(s), loss], [xOf(s), y], [xOf(k), y], [xOf(k), share - 16]], INK.path, 26, 0.32);
}

const label = (g, text, x, y, colour, align) => write(g, text, x, y, { colour, align, font: `600 ${FONT}`, halo: true });

function drawNumbers(g) {
  const t = now(), { row } = state, G = geometry, x = xOf(t);
  if (!valid(t, row)) return;
  const foot = G.y[CELLS[CELLS.length - 1]] + G.grid.height;
  if (!isBackward()) {
    label(g, "Wₓₕ", x + 8, foot + 22, INK.muted, "left");
    const [x0, x1] = between(before(t), t);
    label(g, "Wₕₕ", (x0 + x1) / 2, middleOf("h") - 14, INK.muted, "center");
    return;
  }
  const local = NORMS.local(t, row), carried = NORMS.carried(t, row);
  const left = reverse ? x > G.width - 110 : x > G.gutter + 110; // where nothing has flowed yet, if there is room
  const [aside, align] = left ? [-14, "right"] : [14, "left"];
  if (hasLoss[t]) label(g, `local ${number(local)}`, x + aside, G.y.loss + 26, INK.local, align);
  if (isStep(after(t)) && valid(after(t), row)) {
    const [x0, x1] = between(after(t), t);
    label(g, "carried", (x0 + x1) / 2, middleOf("h") - 33, INK.carried, "center");
    label(g, number(carried), (x0 + x1) / 2, middleOf("h") - 18, INK.carried, "center");
    if (CELLS.length > 1)
      label(g, number(NORMS.carried_c(t, row)), (x0 + x1) / 2, middleOf("c") - 18, INK.carried, "center");
  }
  label(g, number(SHARES.W_hh[t]), x + aside, G.y.share - 8, INK.share, align);
}
