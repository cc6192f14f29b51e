// The bucket that the steps drop their shares of dW_hh into, and small pictures of these shares.

const SIDE = DATA.weights.side;
const GATES = ABOUT.gates.length;
const LEVEL = levels();

/** Return how full the bucket is before each step backward drops its share, 0 … 1: sums of norms. */
function levels() {
  const shares = Array.from(SHARES.W_hh, (v) => (Number.isFinite(v) ? v : 0));
  const whole = shares.reduce((a, b) => a + b, 0) || 1;
  const found = new Float64Array(T + 1);
  for (let k = T - 1; k >= 0; k--) found[k] = found[k + 1] + shares[order(k)] / whole;
  return found; // by order of processing: found[k + 1] before step k, found[k] after it
}

/** Draw the bucket; u is how much of the present share has arrived. */
function drawBucket(u) {
  const canvas = byId("bucket"), g = fit(canvas);
  const W = canvas.clientWidth, B = canvas.clientHeight;
  g.clearRect(0, 0, W, B);
  const wide = Math.min(170, W - 60), left = (W - wide) / 2, lip = 26, foot = B - 8, high = foot - lip - 8;
  const k0 = isBackward() ? orderNow() : T;
  const y = (part) => foot - part * high;
  const inset = (part) => 10 * (1 - part); // it is narrower below
  for (let k = T - 1; k >= k0; k--) {
    const [lo, hi] = [LEVEL[k + 1], k === k0 ? LEVEL[k + 1] + (LEVEL[k] - LEVEL[k + 1]) * u : LEVEL[k]];
    g.fillStyle = k === k0 ? INK.share : INK["share-fill"];
    g.globalAlpha = k === k0 ? 1 : (T - k) % 2 ? 0.95 : 0.7;
    g.beginPath();
    g.moveTo(left + inset(lo), y(lo));
    g.lineTo(left + inset(hi), y(hi));
    g.lineTo(left + wide - inset(hi), y(hi));
    g.lineTo(left + wide - inset(lo), y(lo));
    g.fill();
  }
  g.globalAlpha = 1;
  g.strokeStyle = INK.muted;
  g.lineWidth = 2.5;
  g.lineJoin = "round";
  g.beginPath();
  g.moveTo(left - 3, lip);
  g.lineTo(left + 10, foot + 2);
  g.lineTo(left + wide - 10, foot + 2);
  g.lineTo(left + wide + 3, lip);
  g.stroke();
  if (isBackward() && u < 1 && SHARES.W_hh[now()] !== 0) {
    g.fillStyle = INK["share-fill"];
    g.beginPath();
    g.arc(W / 2, 6 + (y(LEVEL[k0 + 1]) - 6) * u, 6, 0, 2 * Math.PI);
    g.fill();
  }
  g.font = FONT;
  g.textAlign = "center";
  g.textBaseline = "middle";
  g.fillStyle = INK.muted;
  if (isBackward()) {
    if (SHARES.W_hh.some((v) => !Number.isFinite(v))) g.fillText("not all finite", W / 2, B / 2);
    return;
  }
  g.fillText("empty until", W / 2, B / 2 + 2);
  g.fillText("the way back", W / 2, B / 2 + 18);
}

/** Draw a picture of values on the signed scale, the gates side by side. */
function drawPicture(id, values) {
  const canvas = byId(id);
  canvas.width = SIDE * GATES;
  canvas.height = SIDE;
  canvas.style.aspectRatio = "1"; // gates of an LSTM are drawn narrow, so that pictures keep their place
  const g = canvas.getContext("2d"), image = g.createImageData(canvas.width, SIDE), scale = values ? largest(values) : 0;
  for (let i = 0; i < SIDE * SIDE * GATES; i++) {
    const [gate, y, x] = [Math.floor(i / (SIDE * SIDE)), Math.floor(i / SIDE) % SIDE, i % SIDE];
    const value = values ? values[i] : 0;
    const colour = Number.isFinite(value) ? signedBytes[level(value, scale)] : bytesOf(INK["not-finite"]);
    image.data.set([...colour, 255], 4 * (y * SIDE * GATES + gate * SIDE + x));
  }
  g.putImageData(image, 0, 0);
}

/** Return the sum of the pictures of all steps from the last one processed back to step t. */
function pictureSum(t) {
  const sum = new Float64Array(SIDE * SIDE * GATES);
  for (let k = T - 1; k >= order(t); k--) PICTURES(order(k)).forEach((v, i) => (sum[i] += v));
  return sum;
}

function setUpBucket() {
  when(["p"], () => {
    const t = now(), going = isBackward();
    byId("share").textContent = going ? number(SHARES.W_hh[t]) : "–";
    byId("so-far").textContent = going ? `${number(SO_FAR[t])} of ${number(TOTALS.W_hh)}` : "–";
    drawPicture("picture-step", going ? PICTURES(t) : null);
    drawPicture("picture-sum", going ? pictureSum(t) : null);
  });
}
