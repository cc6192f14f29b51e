// The start: texts, then everything is drawn once.

function showAbout() {
  byId("title").textContent = ABOUT.title;
  const loss = number(unpack(DATA.about.total_loss)[0]);
  const sizes = `T = ${T} steps, N = ${N} ${N === 1 ? "row" : "rows"}, D = ${D} inputs, H = ${H} hidden neurons`;
  byId("run").textContent = `${ABOUT.layer} · ${sizes} · loss ${loss}`;
  for (const id of ["of-all", "of-credit"]) byId(id).textContent = N > 1 ? `all ${N} rows` : "";
  showDoctor(DATA.doctor);
  byId("notes").textContent = notes().join(" ");
}

function showDoctor({ verdict, meaning, findings, advice, figures }) {
  const list = (sentences) => {
    const made = element("ul");
    made.append(...sentences.map(({ text }) => element("li", "", text)));
    return made;
  };
  const said = element("p", "verdict");
  said.append(element("b", "", verdict), `: ${meaning}`);
  byId("doctor").append(said, list(findings));
  if (advice.length) byId("doctor").append(element("h3", "", "What to try"), list(advice));
  const single = Object.entries(figures).filter(([, value]) => typeof value === "number");
  const more = element("details"), table = element("table"), box = element("div", "values");
  for (const [name, value] of single) {
    const line = element("tr");
    line.append(element("th", "", name), element("td", "", number(value)));
    table.append(line);
  }
  box.append(table);
  more.append(element("summary", "", "The figures behind it"), box);
  byId("doctor").append(more);
}

/** Say what the page leaves out, and what its colours mean. */
function notes() {
  const found = ["Cells: purple is negative, green positive, red not finite; states share one scale, each step's gradient has its own."];
  found.push("Arrows, bars and the matrix are logarithmic. Time is counted from 0.");
  if (reverse) found.push("The layer reads in reverse: forward goes from the last step to the first.");
  if (N > 1) found.push("States and their gradients are those of the chosen row; what concerns the weights is summed over all rows.");
  if (ROWS.length < N) found.push(`${ROWS.length} of the ${N} rows are shown.`);
  if (SHOWN < H) found.push(`The first ${SHOWN} of ${H} neurons are drawn; norms are over all.`);
  if (SHOWN_INPUTS < D) found.push(`The first ${SHOWN_INPUTS} of ${D} inputs are drawn.`);
  if (DATA.units.rounded) found.push("Values of single units are rounded to 1/127 of the largest of their step; norms are exact.");
  return found;
}

function showRow() {
  const text = N > 1 ? `row ${ROWS[state.row]} of ${N}` : "";
  byId("of-row").textContent = text;
  byId("of-norms").textContent = text;
}

readColours();
showAbout();
when(["row"], showRow);
setUpControls(); // first: the network's label is its sentence
setUpPictures();
setUpNetwork();
setUpCredit();
setUpCharts();
setUpEquation();
setUpRun();
redrawAll();

let resizing = null;
window.addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(redrawAll);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColours();
  redrawAll();
});
document.documentElement.dataset.ready = "yes";
