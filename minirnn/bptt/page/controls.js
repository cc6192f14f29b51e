// Slider, buttons, keys, and the sentence that says what happens.

let timer = null;

/** Say what happens at the present place. */
function sentence() {
  const t = now(), { row } = state, h = `h${sub(t)}`;
  const phase = isBackward() ? "Backward" : "Forward";
  if (!valid(t, row)) return [`${phase}, step ${t} of 0 … ${T - 1}: `, "padding of this row; nothing happens."];
  if (!isBackward()) {
    const from = isStep(before(t)) && valid(before(t), row) ? `h${sub(before(t))}` : "the initial state";
    const loss = hasLoss[t] ? ` The loss looks at ${h}.` : "";
    return [`${phase}, step ${t} of 0 … ${T - 1}: `, `x${sub(t)} and ${from} make ${h}, norm ${number(NORMS.h(t, row))}.${loss}`];
  }
  const sum = `‖dL/d${h}‖ = ${number(NORMS.dh(t, row))}, of local ${number(NORMS.local(t, row))} and carried ${number(NORMS.carried(t, row))}.`;
  const nothing = SHARES.W_hh[t] === 0 && orderNow() === 0 && NORMS.dz(t, row) > 0;
  const share = nothing
    ? ` Step ${t} drops nothing into dW_hh, which met an initial state of zeros.`
    : ` Step ${t} drops a share of norm ${number(SHARES.W_hh[t])} into dW_hh.`;
  return [`${phase}, step ${t} of 0 … ${T - 1}: `, sum + share];
}

function showNow() {
  const [where, what] = sentence();
  byId("now").replaceChildren(element("b", "", where), what);
  const slider = byId("time");
  slider.value = state.p;
  slider.setAttribute("aria-valuetext", where + what);
  const chapters = document.querySelectorAll(".story li"), loss = hasLoss[now()];
  const here = isBackward() ? [2, 3] : loss ? [0, 1] : [0];
  chapters.forEach((chapter, i) => chapter.classList.toggle("here", here.includes(i)));
}

function tick() {
  if (!state.playing) return;
  if (state.p >= LAST) return choose({ playing: false });
  moveTo(state.p + 1);
  timer = setTimeout(tick, pace());
}

function togglePlay() {
  if (!state.playing && state.p >= LAST) moveTo(0);
  choose({ playing: !state.playing });
}

function showPlay() {
  clearTimeout(timer);
  byId("play-text").textContent = state.playing ? "Pause" : "Play";
  byId("play-icon").setAttribute("d", state.playing ? "M3 2h4v12H3zM9 2h4v12H9z" : "M4 2v12l10-6z");
  if (state.playing) timer = setTimeout(tick, pace());
  byId("now").setAttribute("aria-live", state.playing ? "off" : "polite"); // a reader would never catch up
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = event.target.tagName, own = at === "SELECT" || at === "BUTTON" || at === "INPUT";
  const jumps = { ArrowLeft: state.p - 1, ArrowRight: state.p + 1, Home: 0, End: LAST };
  if (event.key === " " && at !== "SELECT" && at !== "BUTTON") togglePlay();
  else if (event.key in jumps && (!own || at === "BUTTON")) stepTo(jumps[event.key]);
  else if (event.key === "Escape") choose({ path: null, cursor: null });
  else return;
  event.preventDefault();
}

/** Go to a place by hand: playing stops. */
function stepTo(p) {
  choose({ playing: false });
  moveTo(p);
}

function showTip(text, event) {
  const tip = byId("tip");
  tip.textContent = text;
  tip.hidden = false;
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 8)}px`;
}

const hideTip = () => (byId("tip").hidden = true);

function setUpControls() {
  const slider = byId("time"), rows = byId("row"), speed = byId("speed");
  slider.max = LAST;
  slider.addEventListener("input", () => stepTo(Number(slider.value)));
  const buttons = { first: () => 0, back: () => state.p - 1, on: () => state.p + 1, last: () => LAST };
  for (const [id, to] of Object.entries(buttons)) byId(id).addEventListener("click", () => stepTo(to()));
  byId("play").addEventListener("click", togglePlay);
  ROWS.forEach((row, i) => {
    const option = element("option", "", String(row));
    option.value = i;
    rows.append(option);
  });
  byId("row-label").hidden = ROWS.length === 1;
  rows.addEventListener("change", () => choose({ row: Number(rows.value) }));
  speed.addEventListener("change", () => choose({ speed: Number(speed.value) }));
  document.addEventListener("keydown", key);
  when(["p", "row"], showNow);
  when(["playing"], showPlay);
}
