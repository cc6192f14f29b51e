// Colours, read from the style sheet so that light and dark need no second list.

const INK = {};
const NAMES = ["page", "card", "ink", "muted", "line", "faint", "local", "carried", "share", "share-fill", "path", "cut",
  "negative", "neutral", "positive", "not-finite"];
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const LEVELS = 127;
let signed = []; // 2 · LEVELS + 1 colours, from the most negative to the most positive
let signedBytes = [];

const bytesOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const mix = (a, b, u) => a.map((v, i) => Math.round(v + (b[i] - v) * u));

/** Read the colours of the present scheme. */
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of NAMES) INK[name] = style.getPropertyValue(`--${name}`).trim();
  const [lo, mid, hi] = ["negative", "neutral", "positive"].map((name) => bytesOf(INK[name]));
  signedBytes = [];
  for (let i = -LEVELS; i <= LEVELS; i++) signedBytes.push(mix(mid, i < 0 ? lo : hi, Math.abs(i) / LEVELS));
  signed = signedBytes.map((c) => `rgb(${c})`);
}

const level = (value, largest) => LEVELS + Math.round(Math.max(-1, Math.min(1, largest > 0 ? value / largest : 0)) * LEVELS);

/** Return the colour of a signed value on a scale that ends at ±largest. */
const signedColour = (value, largest) => (Number.isFinite(value) ? signed[level(value, largest)] : INK["not-finite"]);

/** Return the bytes of a colour on the sequential scale, u = 0 … 1. */
function sequential(u) {
  const at = Math.max(0, Math.min(1, u)) * (VIRIDIS.length - 1);
  const i = Math.min(VIRIDIS.length - 2, Math.floor(at));
  return mix(bytesOf(VIRIDIS[i]), bytesOf(VIRIDIS[i + 1]), at - i);
}

/** Fit a canvas to its box at the screen's own pixels; return its context, in CSS pixels. */
function fit(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  if (height) canvas.style.height = `${height}px`;
  const width = canvas.clientWidth;
  const [w, h] = [Math.round(width * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

/** Write a text; with a halo it stays legible on whatever is under it. */
function write(g, text, x, y, { colour = INK.muted, align = "center", font = FONT, halo = false } = {}) {
  g.fillStyle = colour;
  g.textAlign = align;
  g.textBaseline = "middle";
  g.font = font;
  if (halo) {
    g.lineJoin = "round";
    g.lineWidth = 4;
    g.strokeStyle = INK.card;
    g.strokeText(text, x, y);
  }
  g.fillText(text, x, y);
}

/** Draw a line through points. */
function polyline(g, points, colour, width, alpha = 1) {
  g.strokeStyle = colour;
  g.lineWidth = width;
  g.globalAlpha = alpha;
  g.beginPath();
  for (const [x, y] of points) g.lineTo(x, y);
  g.stroke();
  g.globalAlpha = 1;
}

/** Fill a polygon. */
function polygon(g, points, colour) {
  g.fillStyle = colour;
  g.beginPath();
  for (const [x, y] of points) g.lineTo(x, y);
  g.closePath();
  g.fill();
}

/** Hatch a rectangle: what is not there. */
function hatch(g, x, y, w, h, colour) {
  g.save();
  g.beginPath();
  g.rect(x, y, w, h);
  g.clip();
  for (let d = -h; d < w; d += 6) polyline(g, [[x + d, y + h], [x + d + h, y]], colour, 1);
  g.restore();
}
