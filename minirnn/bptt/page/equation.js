// The equation of the chosen step, forward or backward, with its numbers where they are few.

const EQUATION = mapValues(DATA.equation, (packed) =>
  packed.shape.length > 1 ? vectors(packed) : ((all) => () => all)(Float64Array.from(unpack(packed))),
);
const NUMBERS = Boolean(EQUATION.W_hh); // small enough to be written out
const PHI = { tanh: "tanh", relu: "max(0, ·)", sigmoid: "σ", identity: "" };
const PRIME = { tanh: "1 − h²", relu: "1 where h > 0, else 0", sigmoid: "h(1 − h)", identity: "1" };

/** Return the symbols of the forward equation, line by line. */
function forwardSymbols(t) {
  const h = `h${sub(t)}`, past = `h${sub(before(t))}`, x = `x${sub(t)}`, b = ABOUT.bias ? " + b" : "";
  const fed = fedBefore(t);
  const z = `${x} Wₓₕ + ${fed} Wₕₕ${b}`;
  if (ABOUT.kind === "LSTMLayer") {
    const c = `c${sub(t)}`;
    return [`[i f g o] = [σ σ tanh σ](${z})`, `${c} = f ⊙ c${sub(before(t))} + i ⊙ g,   ${h} = o ⊙ tanh(${c})`];
  }
  if (ABOUT.kind === "GRULayer") {
    const bn = ABOUT.bias ? " + bₕₙ" : "";
    const n = ABOUT.reset_after ? `tanh(${x} Wₓₙ${b} + r ⊙ (${fed} Wₕₙ${bn}))` : `tanh(${x} Wₓₙ + (r ⊙ ${fed}) Wₕₙ${b})`;
    return [`[r z] = σ(${z})`, `n = ${n},   ${h} = (1 − z) ⊙ n + z ⊙ ${past}`];
  }
  if (ABOUT.cell) return [`z${sub(t)} = ${z}`, `${h} = ${ABOUT.cell}(z${sub(t)}, ${past})`];
  return [`${h} = ${ABOUT.activation === "identity" ? z : `${PHI[ABOUT.activation] ?? "φ"}(${z})`}`];
}

/** Return what dL/dz is made of, line by line. A prime is the slope of a gate: i′ = i(1 − i), g′ = 1 − g². */
function slopeSymbols(t) {
  const dh = `dL/dh${sub(t)}`, past = `h${sub(before(t))}`, z = `z${sub(t)}`;
  if (ABOUT.kind === "LSTMLayer") {
    const c = `c${sub(t)}`, dc = `dL/d${c}`, carried = isStep(after(t)) ? " + carried in c" : "";
    const first = `${dc} = ${dh} ⊙ o ⊙ (1 − tanh²(${c}))${carried}`;
    return [first, `dL/d${z} = [${dc} ⊙ g ⊙ i′   ${dc} ⊙ c${sub(before(t))} ⊙ f′   ${dc} ⊙ i ⊙ g′   ${dh} ⊙ tanh(${c}) ⊙ o′]`];
  }
  if (ABOUT.kind === "GRULayer") {
    const product = `${fedBefore(t)} Wₕₙ${ABOUT.bias ? " + bₕₙ" : ""}`;
    const dr = ABOUT.reset_after ? `dn ⊙ (${product}) ⊙ r′` : `(dn Wₕₙᵀ) ⊙ ${fedBefore(t)} ⊙ r′`;
    return [`dL/d${z} = [dr   dz   dn]`, `dn = ${dh} ⊙ (1 − z) ⊙ n′,   dz = ${dh} ⊙ (${past} − n) ⊙ z′`, `dr = ${dr}`];
  }
  return [`dL/d${z} = ${ABOUT.cell ? `${ABOUT.cell}.step_backward(${dh})` : `${dh} ⊙ φ′(${z})`}`];
}

/** Return what W_hh is multiplied with at step t: under the mask of recurrent_dropout, if there is one. */
const fedBefore = (t) => (ABOUT.masked ? `(m ⊙ h${sub(before(t))})` : `h${sub(before(t))}`);

/** Return what the weights and the step before get, line by line. */
function onwardSymbols(t) {
  const dz = `dL/dz${sub(t)}`, past = `h${sub(before(t))}`, fed = fedBefore(t), m = ABOUT.masked ? "m ⊙ " : "";
  if (ABOUT.kind === "GRULayer") {
    const kept = ` + dL/dh${sub(t)} ⊙ z`;
    if (ABOUT.reset_after) return [`dWₕₕ gets ${fed}ᵀ [dr   dz   r ⊙ dn]`, `${past} gets ${m}[dr   dz   r ⊙ dn] Wₕₕᵀ${kept}`];
    const share = `dWₕₕ gets [${fed}ᵀ [dr   dz]   (r ⊙ ${fed})ᵀ dn]`;
    return [share, `${past} gets ${m}([dr   dz] [W_hr W_hz]ᵀ + r ⊙ (dn W_hnᵀ))${kept}`];
  }
  const on = `${past} gets ${m}${ABOUT.masked ? `(${dz} Wₕₕᵀ)` : `${dz} Wₕₕᵀ`}`, c = sub(before(t));
  const also = ABOUT.kind === "LSTMLayer" ? `,   c${c} gets dL/dc${sub(t)} ⊙ f` : ABOUT.cell ? " + what the cell hands back" : "";
  return [`dWₕₕ gets ${fed}ᵀ ${dz}`, on + also];
}

function backwardSymbols(t) {
  const carried = isStep(after(t)) ? ` + carried from step ${after(t)}` : "";
  const total = ABOUT.message_clip === null ? `local${carried}` : `clipped(local${carried})`;
  return [`dL/dh${sub(t)} = ${total}`, ...slopeSymbols(t), ...onwardSymbols(t)];
}

/** Make a table of vectors: [name, values, class] each; cells are tinted by sign and size. */
function vectorTable(rows, head) {
  const table = element("table"), body = element("tbody");
  if (head) {
    const line = element("tr", "head");
    line.append(element("th"), ...head.map((text) => element("td", "", text)));
    body.append(line);
  }
  for (const [name, values, className] of rows) {
    const line = element("tr"), scale = largest(values);
    line.append(element("th", className ?? "", name));
    for (const v of values) {
      const cell = element("td", "", number(v));
      cell.style.background = Number.isFinite(v) && scale > 0 ? `rgb(${signedBytes[level(v, scale)].join(" ")} / 0.25)` : "";
      line.append(cell);
    }
    body.append(line);
  }
  table.append(body);
  const box = element("div", "values");
  box.append(table);
  return box;
}

/** Make the table of a matrix, with its name and shape. */
function matrixTable(name, rows, width, row) {
  const box = element("div");
  box.append(element("b", "", `${name} (${rows}, ${width})`));
  box.append(vectorTable(Array.from({ length: rows }, (_, i) => ["", row(i)])));
  return box;
}

const unitHead = (n) => Array.from({ length: n }, (_, i) => String(i));
const gateBlock = (values, j) => values.subarray(j * H, (j + 1) * H);
const σ = (z) => z.map((v) => 1 / (1 + Math.exp(-v)));
const tanh = (z) => z.map(Math.tanh);

/** Return the gates of a step after their activations, from their pre-activations. */
function gateRows(t, row) {
  const z = EQUATION.z(t, row), rows = [];
  const apply = { i: σ, f: σ, o: σ, g: tanh, r: σ, z: σ, n: tanh };
  for (const [j, gate] of ABOUT.gates.entries()) {
    const block = gateBlock(z, j);
    if (ABOUT.cell) rows.push([`${gate}, block ${j} of zₜ`, block]);
    else if (ABOUT.gates.length > 1) rows.push([`${gate} = ${apply[gate] === σ ? "σ" : "tanh"}(…)`, apply[gate](block)]);
    else rows.push([`z${sub(t)}, their sum`, block]);
  }
  return rows;
}

function forwardNumbers(t, row) {
  const found = [vectorTable([[`x${sub(t)}`, UNITS.x(t, row)]], unitHead(D))];
  const past = [`h${sub(before(t))}`, stateBefore(t, row)], rows = [past];
  if (UNITS.c) rows.push([`c${sub(before(t))}`, stateBefore(t, row, 1)]);
  if (ABOUT.gates.length === 1) {
    rows.push([`x${sub(t)} Wₓₕ`, EQUATION.from_x(t, row)], [`${ABOUT.masked ? "m ⊙ " : ""}h${sub(before(t))} Wₕₕ`, EQUATION.from_h(t, row)]);
    if (ABOUT.bias) rows.push(["b", EQUATION.b_h()]);
  }
  rows.push(...gateRows(t, row));
  if (UNITS.c) rows.push([`c${sub(t)}`, UNITS.c(t, row)]);
  rows.push([`h${sub(t)}`, UNITS.h(t, row)]);
  found.push(vectorTable(rows, unitHead(H)));
  if (ABOUT.gates.length === 1) {
    const pair = element("div", "equation-matrices");
    pair.append(matrixTable("Wₓₕ", D, H, (i) => EQUATION.W_xh(i)), matrixTable("Wₕₕ", H, H, (i) => EQUATION.W_hh(i)));
    found.push(pair);
  }
  return found;
}

function backwardNumbers(t, row) {
  const rows = [["local", UNITS.local(t, row), "local"], ["carried", UNITS.carried(t, row), "carried"]];
  rows.push([`dL/dh${sub(t)}`, UNITS.dh(t, row)]);
  if (UNITS.dc) rows.push([`dL/dc${sub(t)}`, UNITS.dc(t, row)]);
  const dz = EQUATION.dz(t, row);
  if (ABOUT.kind === "RecurrentLayer" && !ABOUT.cell) {
    const dh = UNITS.dh(t, row), h = UNITS.h(t, row);
    const slope = { tanh: (v) => 1 - v * v, relu: (v) => (v > 0 ? 1 : 0), sigmoid: (v) => v * (1 - v), identity: () => 1 };
    const of = slope[ABOUT.activation];
    if (of) rows.push([`φ′ = ${PRIME[ABOUT.activation]}`, h.map(of)]);
    else rows.push(["φ′", dz.map((v, i) => v / dh[i])]);
    rows.push([`dL/dz${sub(t)}`, dz]);
  } else {
    for (const [j, gate] of ABOUT.gates.entries()) rows.push([`dL/dz${sub(t)}, ${gate}`, gateBlock(dz, j)]);
  }
  const found = [vectorTable(rows, unitHead(H))];
  if (ABOUT.gates.length === 1 && !ABOUT.masked) {
    const past = stateBefore(t, row), dzh = EQUATION.dz_h(t, row);
    const name = `h${sub(before(t))}ᵀ dL/dz${sub(t)}, this row's share of dWₕₕ`;
    const box = element("div", "equation-matrices");
    box.append(matrixTable(name, H, H, (i) => dzh.map((v) => v * past[i])));
    found.push(box);
  }
  return found;
}

/** Return the norms of the terms, where the numbers themselves would be too many. */
function normRows(t, row) {
  const G = ABOUT.gates.length, wide = G > 1 ? `${G}·${H}` : `${H}`;
  const value = (name) => number(NORMS[name](t, row));
  const forward = [
    [`x${sub(t)}`, `(1, ${D})`, value("x")],
    [`x${sub(t)} Wₓₕ`, `(1, ${wide})`, value("from_x")],
    [`h${sub(before(t))} Wₕₕ`, `(1, ${wide})`, value("from_h")],
    [`z${sub(t)}`, `(1, ${wide})`, value("z")],
    [`h${sub(t)}`, `(1, ${H})`, value("h")],
  ];
  const backward = [
    ["local", `(1, ${H})`, value("local"), "local"],
    ["carried", `(1, ${H})`, value("carried"), "carried"],
    [`dL/dh${sub(t)}`, `(1, ${H})`, value("dh")],
    [`dL/dz${sub(t)}`, `(1, ${wide})`, value("dz")],
    ["share of dWₕₕ, all rows", `(${H}, ${wide})`, number(SHARES.W_hh[t]), "share"],
  ];
  return isBackward() ? backward : forward;
}

function normTable(t, row) {
  const box = element("div", "values"), table = element("table"), body = element("tbody"), head = element("tr", "head");
  head.append(element("th"), element("td", "shape", "shape"), element("td", "", "norm"));
  body.append(head);
  for (const [name, shapeText, norm, className] of normRows(t, row)) {
    const line = element("tr");
    line.append(element("th", className ?? "", name), element("td", "shape", shapeText), element("td", "", norm));
    body.append(line);
  }
  table.append(body);
  box.append(table);
  return box;
}

function showEquation() {
  const t = now(), { row } = state, parts = [];
  byId("equation-step").textContent = `${t}, ${isBackward() ? "backward" : "forward"}`;
  const formula = element("div", "formula");
  for (const line of isBackward() ? backwardSymbols(t) : forwardSymbols(t)) formula.append(element("div", "symbols", line));
  parts.push(formula);
  if (!valid(t, row)) parts.push(element("p", "why", "This step is padding of the row: its state stays what it is."));
  else if (NUMBERS) parts.push(...(isBackward() ? backwardNumbers(t, row) : forwardNumbers(t, row)));
  else parts.push(normTable(t, row));
  if (EQUATION.saturation) {
    const shares = [...EQUATION.saturation(t)].map((v, j) => `${ABOUT.gates.length > 1 ? `${ABOUT.gates[j]} ` : ""}${(100 * v).toFixed(0)} %`);
    parts.push(element("p", "why", `Saturated units, all rows: ${shares.join(", ")}.`));
  }
  byId("equation").replaceChildren(...parts);
}

function setUpEquation() {
  when(["p", "row"], showEquation);
}
