// The equations of the chosen step, forward or backward, with their numbers where they are few, else with norms.

const EQUATION = DATA.equation;
const TERMS = mapValues(EQUATION.arrays, (packed) => {
  const values = unpack(packed), shape = packed.shape;
  const ofSteps = EQUATION.numbers ? shape.length > 2 : shape.length > 1; // else a weight, the same at all steps
  const width = EQUATION.numbers ? shape[shape.length - 1] : 1;
  const count = ofSteps ? 1 : values.length / width;
  return (t, row) => {
    const first = ofSteps ? t * ROWS.length + row : 0;
    return Array.from({ length: count }, (_, i) => values.subarray((first + i) * width, (first + i + 1) * width));
  };
});
const TOP = mapValues(EQUATION.largest, ({ units, values }) => [vectors(units), vectors(values)]);
const SATURATION = EQUATION.saturation ? vectors(EQUATION.saturation) : null;

/** Write the number of the step, of the one before and of the one after, where they belong. */
const atStep = (text, t) => text.replaceAll("⟦t⟧", sub(t)).replaceAll("⟦b⟧", sub(before(t))).replaceAll("⟦a⟧", sub(after(t)));

/** Make a table of the terms of one equation: a line for each vector, several for a matrix; tinted by sign and size. */
function termTable(entries, t, row) {
  const box = element("div", "values"), table = element("table"), body = element("tbody");
  for (const [name, shape] of entries) {
    TERMS[name](t, row).forEach((values, i) => {
      const [units, entries] = TOP[name]?.map((of) => of(t, row)) ?? [[], []];
      const line = element("tr"), scale = largest(EQUATION.numbers ? values : entries);
      const className = name === "local" || name === "carried" ? name : "";
      line.append(element("th", className, i ? "" : atStep(name, t)), element("td", "shape", i ? "" : shape));
      [...values, ...entries.filter((v) => v !== 0)].forEach((v, j) => {
        const unit = units[j - values.length];
        const cell = element("td", "", number(v) + (unit === undefined ? "" : sub(unit)));
        const tinted = (EQUATION.numbers || unit !== undefined) && Number.isFinite(v) && scale > 0;
        cell.style.background = tinted ? `rgb(${signedBytes[level(v, scale)].join(" ")} / 0.25)` : "";
        line.append(cell);
      });
      body.append(line);
    });
  }
  table.append(body);
  box.append(table);
  return box;
}

function showEquation() {
  const t = now(), { row } = state, back = isBackward(), parts = [];
  byId("equation-step").textContent = `${t}, ${back ? "backward" : "forward"}`;
  const last = !isStep(after(t)) || !valid(after(t), row);
  if (!valid(t, row)) parts.push(element("p", "why", "This step is padding of the row: its state stays what it is."));
  else if (back && last) parts.push(element("p", "why", `The row has no step ${after(t)}: nothing comes from there.`));
  for (const { lines, entries } of back ? EQUATION.backward : EQUATION.forward) {
    const formula = element("div", "formula");
    for (const line of lines) formula.append(element("div", "symbols", atStep(line, t)));
    parts.push(formula);
    const shown = entries.filter(([name]) => !(last && name.includes("⟦a⟧")));
    if (valid(t, row) && shown.length) parts.push(termTable(shown, t, row));
  }
  if (!EQUATION.numbers) parts.push(element("p", "why", "There are many numbers: first the norm, then the largest entries of a vector, the unit as their index."));
  if (SATURATION) {
    const shares = [...SATURATION(t)].map((v, j) => `${ABOUT.gates.length > 1 ? `${ABOUT.gates[j]} ` : ""}${(100 * v).toFixed(0)} %`);
    parts.push(element("p", "why", `Saturated units, all rows: ${shares.join(", ")}.`));
  }
  byId("equation").replaceChildren(...parts);
}

function setUpEquation() {
  when(["p", "row"], showEquation);
}
