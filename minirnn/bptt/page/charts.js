// Charts by step, drawn as SVG: curves on a logarithmic or a plain axis, with a marker at what is chosen.

const SVG = "http://www.w3.org/2000/svg";
const PAD = { left: 52, right: 10, top: 8, bottom: 22 };

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Return the axis of some curves: where a value lies, 0 at the foot and 1 at the top, and its ticks. */
function axisOf(curves, { linear, ends, decades = 14 }) {
  if (linear) {
    const [lo, hi] = ends;
    return { at: (v) => (v - lo) / (hi - lo), ticks: [lo, (lo + hi) / 2, hi].map((v) => [v, String(v)]) };
  }
  if (!curves.some((curve) => curve.values.some((v) => v > 0 && v < Infinity))) return { at: () => 0, ticks: [[0, "0"]] };
  let [lo, hi] = range(curves.flatMap((curve) => curve.values)).map(Math.log10);
  [lo, hi] = [Math.floor(Math.max(lo, hi - decades) + 1e-9), Math.ceil(hi - 1e-9)];
  if (hi <= lo) hi = lo + 1;
  const step = Math.ceil((hi - lo) / 5);
  const ticks = [];
  for (let d = hi; d >= lo; d -= step) ticks.push([10 ** d, d >= -3 && d <= 4 ? String(Number((10 ** d).toFixed(3))) : `1e${d}`.replace("-", "−")]);
  return { at: (v) => Math.max(0, (Math.log10(v) - lo) / (hi - lo)), ticks };
}

/**
 * Draw curves: each has values by place 0 … n−1, a colour, a width, a dash. Zero lies on the foot, hollow; NaN and inf
 * are crosses at the top.
 */
function drawChart(svg, n, curves, options) {
  const W = svg.clientWidth, B = svg.clientHeight, wide = W - PAD.left - PAD.right, high = B - PAD.top - PAD.bottom;
  const axis = axisOf(curves, options);
  const x = (i) => PAD.left + (n > 1 ? (i / (n - 1)) * wide : wide / 2);
  const y = (v) => PAD.top + (1 - axis.at(v)) * high;
  const parts = [];
  for (const i of options.padding ?? []) {
    const half = wide / Math.max(1, n - 1) / 2;
    parts.push(shape("rect", { class: "padding", x: x(i) - half, y: PAD.top, width: 2 * half, height: high }));
  }
  for (const [value, text] of axis.ticks) {
    parts.push(shape("line", { class: "grid", x1: PAD.left, x2: W - PAD.right, y1: y(value), y2: y(value) }));
    parts.push(shape("text", { x: PAD.left - 7, y: y(value) + 4, "text-anchor": "end" }, text + (options.unit ?? "")));
  }
  for (const i of ticksOf(n, wide / 48))
    parts.push(shape("text", { x: x(i), y: B - 6, "text-anchor": "middle" }, String((options.label ?? Number)(i))));
  if (options.one) parts.push(shape("line", { class: "one", x1: PAD.left, x2: W - PAD.right, y1: y(1), y2: y(1) }));
  for (const curve of curves) parts.push(...drawCurve(curve, x, y, options.linear));
  const marker = shape("line", { class: "marker", y1: PAD.top, y2: PAD.top + high });
  parts.push(marker);
  svg.replaceChildren(...parts);
  const place = svg.chart?.place;
  svg.chart = { x, n, marker, place, W, B, again: () => drawChart(svg, n, curves, options) };
  if (place !== undefined) mark(svg, place);
  sized.observe(svg);
}

/** A chart has the room that the texts around it leave, and these come later and change: then it is drawn again. */
const sized = new ResizeObserver((changes) => {
  for (const { target: svg } of changes) if (svg.clientWidth !== svg.chart.W || svg.clientHeight !== svg.chart.B) svg.chart.again();
});

function drawCurve(curve, x, y, linear) {
  const parts = [], { colour, width = 2, dash = "" } = curve;
  const good = (v) => Number.isFinite(v) && (linear || v > 0);
  let path = "", open = false;
  curve.values.forEach((v, i) => {
    const at = curve.places ? curve.places[i] : i;
    if (good(v)) path += `${open ? "L" : "M"}${x(at).toFixed(1)},${y(v).toFixed(1)}`;
    open = good(v);
    if (open && !good(curve.values[i - 1]) && !good(curve.values[i + 1]))
      parts.push(shape("circle", { cx: x(at), cy: y(v), r: width + 0.5, fill: colour }));
    if (v === 0 && !linear)
      parts.push(shape("circle", { cx: x(at), cy: y(0), r: 2, fill: "none", stroke: colour }));
    if (!Number.isFinite(v) && v !== undefined)
      parts.push(shape("text", { x: x(at), y: PAD.top + 9, "text-anchor": "middle" }, "×"));
  });
  parts.push(shape("path", { d: path, stroke: colour, "stroke-width": width, "stroke-dasharray": dash }));
  return parts;
}

function mark(svg, i) {
  if (!svg.chart) return;
  svg.chart.place = i;
  svg.chart.marker.setAttribute("x1", svg.chart.x(i));
  svg.chart.marker.setAttribute("x2", svg.chart.x(i));
}

/** Let a click in a chart choose a place. */
function onPlace(svg, chosen) {
  svg.addEventListener("click", (event) => {
    const { x, n } = svg.chart, px = event.clientX - svg.getBoundingClientRect().left;
    const i = n > 1 ? Math.round((px - x(0)) / (x(1) - x(0))) : 0;
    chosen(Math.max(0, Math.min(n - 1, i)));
  });
}

const padded = () => steps.filter((t) => !valid(t, state.row));

// --- norms by step

const NORM_CURVES = [
  ["dh", "‖dL/dhₜ‖", "ink", 2.5, ""],
  ["local", "local", "local", 2, ""],
  ["carried", "carried", "carried", 2, "6 3"],
];

function drawNorms() {
  const { row } = state;
  const curves = NORM_CURVES.map(([name, , colour, width, dash]) => ({
    values: steps.map((t) => (valid(t, row) ? NORMS[name](t, row) : undefined)), colour: INK[colour], width, dash,
  }));
  if (N > 1) curves.push({ values: [...TOGETHER.dh], colour: INK.muted, width: 1.2, dash: "2 3" });
  drawChart(byId("norms"), T, curves, { padding: padded() });
  const keys = NORM_CURVES.map(([, text, colour, , dash]) => [text, INK[colour], dash ? "dashed" : "solid"]);
  if (N > 1) keys.push([`‖dL/dhₜ‖, all ${N} rows`, INK.muted, "dotted"]);
  byId("norms-key").replaceChildren(
    ...keys.map(([text, colour, style]) => {
      const made = element("span", "", text);
      made.style.setProperty("--colour", colour);
      made.style.setProperty("--style", style);
      return made;
    }),
  );
}

function showNorms() {
  const t = now(), { row } = state, together = N > 1 ? `; over all ${N} rows ${number(TOGETHER.dh[t])}` : "";
  const name = `‖dL/dh${sub(t)}‖`;
  byId("norms-read").textContent = valid(t, row)
    ? `${name} = ${number(NORMS.dh(t, row))}: local ${number(NORMS.local(t, row))}, carried ${number(NORMS.carried(t, row))}${together}.`
    : `Step ${t} is padding of this row${together}.`;
}

// --- singular values of the steps' Jacobians

const SINGULAR = DATA.singular.missing ? null : unpack(DATA.singular.values);
const ZEROS = SINGULAR && unpack(DATA.singular.zeros);
const singularAt = (i, row, q) => SINGULAR[(i * ROWS.length + row) * DATA.singular.names.length + q];

function drawSingular() {
  const { steps: places, names } = DATA.singular, { row } = state, last = names.length - 1;
  const curves = names.map((_, q) => ({
    values: places.map((t, i) => (valid(t, row) ? singularAt(i, row, q) || undefined : undefined)), // zeros are said
    places, colour: q === 0 ? INK.carried : q === last ? INK.local : INK.muted, width: q === 0 || q === last ? 2 : 1,
  }));
  drawChart(byId("singular"), T, curves, { padding: padded(), one: true, decades: 8 });
}

function showSingular() {
  const { steps: places, names, few, every, size } = DATA.singular, { row } = state;
  const i = Math.min(places.length - 1, Math.round(now() / every)), t = places[i];
  const zeros = ZEROS[i * ROWS.length + row], left = few ? size - zeros : names.length;
  const values = names.slice(0, left).map((_, q) => number(singularAt(i, row, q)));
  const none = zeros ? `${zeros} of ${size} values are 0 (to rounding)` : `of ${size} values`;
  const said = zeros === size ? `From step ${t} all ${size} values are 0.` : few
    ? `From step ${t}: ${zeros ? `${none}, the others ` : ""}${values.join(", ")}.`
    : `From step ${t}, ${none}${zeros ? ", of the others" : ""}: largest ${values[0]}, median ${values[names.indexOf("50%")]}, least ${values[left - 1]}.`;
  const rest = every > 1 ? ` One step in ${every} was looked at.` : "";
  byId("singular-read").textContent = valid(t, row)
    ? `${said} Below the dotted 1 a step shrinks gradients, above it they grow.${rest}`
    : `Step ${t} is padding of this row.`;
}

function setUpCharts() {
  const letter = CELLS.length > 1 ? "[h c]" : "h";
  byId("jacobian-name").textContent = `∂${letter}ₜ/∂${letter}ₜ${reverse ? "₊" : "₋"}₁`;
  onPlace(byId("norms"), goTo);
  when(["row"], drawNorms);
  when(["p", "row"], () => mark(byId("norms"), now()));
  when(["p", "row"], showNorms);
  if (SINGULAR) {
    onPlace(byId("singular"), goTo);
    when(["row"], drawSingular);
    when(["p", "row"], () => mark(byId("singular"), now()));
    when(["p", "row"], showSingular);
  } else {
    byId("singular-missing").hidden = false;
    byId("singular-missing").textContent = DATA.singular.missing;
    byId("singular").remove();
    byId("singular-read").hidden = true;
  }
  if (CREDIT) {
    const svg = byId("angles"), top = [...CREDIT.angles].some((a) => a > 90) ? 180 : 90;
    onPlace(svg, (i) => {
      byId("k2").value = i + 1;
      choose({ k2: i + 1 });
    });
    when(["row"], () => {
      const curve = { values: [...CREDIT.angles], colour: INK.ink };
      drawChart(svg, T, [curve], { linear: true, ends: [0, top], unit: "°", label: (i) => i + 1 });
    });
    when(["k2", "row"], () => mark(svg, state.k2 - 1));
  }
}
