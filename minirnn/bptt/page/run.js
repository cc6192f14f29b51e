// The training that the traces are moments of: its loss and gradient norm, and the credit at each of its checkpoints.

/** Show another moment at the same step; the page is made anew, since everything in it is about one moment. */
function goToMoment(i) {
  if (i === MOMENT || !ALL.moments[i]) return;
  location.hash = new URLSearchParams({ moment: i, p: state.p, row: state.row });
  location.reload();
}

function drawRun() {
  for (const [id, values, colour] of [["run-loss", RUN.loss, "ink"], ["run-grad", RUN.grad_norm, "carried"]]) {
    const curve = { values: [...unpack(values)], colour: INK[colour], width: 1.5 };
    drawChart(byId(id), curve.values.length, [curve], { decades: 8, label: (i) => (i + 1) * RUN.every });
    mark(byId(id), RUN.places[MOMENT]);
  }
}

/** Draw the credit at a moment as a small picture, all moments on one scale; its place in the list is its button. */
function thumbnail({ update, side, levels }, i) {
  const made = element("button", i === MOMENT ? "moment here" : "moment"), canvas = element("canvas");
  const found = unpack(levels), g = canvas.getContext("2d");
  [canvas.width, canvas.height] = [side, found.length / side];
  const image = g.createImageData(canvas.width, canvas.height);
  const colourOf = (v) => (v === 255 ? bytesOf(INK["not-finite"]) : v ? sequential((v - 1) / 253) : bytesOf(INK.faint));
  found.forEach((v, j) => image.data.set([...colourOf(v), 255], 4 * j));
  g.putImageData(image, 0, 0);
  made.append(canvas, element("span", "", `update ${update}`));
  made.setAttribute("aria-pressed", i === MOMENT);
  made.addEventListener("click", () => goToMoment(i));
  return made;
}

function setUpRun() {
  byId("training").hidden = !RUN;
  if (!RUN) return;
  byId("training-read").textContent = RUN.text;
  for (const id of ["run-loss", "run-grad"])
    onPlace(byId(id), (place) => {
      const far = RUN.places.map((at) => Math.abs(at - place));
      goToMoment(far.indexOf(Math.min(...far)));
    });
  when(["row"], drawRun);
  when(["row"], () => byId("moments").replaceChildren(...RUN.moments.map(thumbnail)));
  document.addEventListener("keydown", ({ key }) => goToMoment(MOMENT + ({ "[": -1, "]": 1 }[key] ?? 0)));
}
