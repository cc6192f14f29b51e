// Numbers and symbols as text.

const DIGITS = 4;

/** Write a number with four significant digits; zero, NaN and inf as what they are. */
function number(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "−inf";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e5 ? value.toPrecision(DIGITS) : value.toExponential(DIGITS - 1);
  return text.replaceAll("-", "−").replace("e+", "e");
}

/** Write a part of a whole in percent. */
function percent(part, whole) {
  if (!(whole > 0) || !Number.isFinite(part / whole)) return "–";
  const value = (100 * part) / whole;
  return value !== 0 && value < 0.1 ? "<\u00a00.1\u00a0%" : `${value.toFixed(1)}\u00a0%`;
}

/** Write an index as a subscript: h₁₂, h₋₁. */
function sub(t) {
  return [...String(t)].map((c) => (c === "-" ? "₋" : "₀₁₂₃₄₅₆₇₈₉"[c])).join("");
}

/** Make an element with a class and a text; whatever comes from the data gets into the page by this way only. */
function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const byId = (id) => document.getElementById(id);
