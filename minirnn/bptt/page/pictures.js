// Small pictures of the present step's share of dW_hh, and of the sum of the shares so far.

const SIDE = DATA.weights.side;
const GATES = ABOUT.gates.length;

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

function setUpPictures() {
  when(["p"], () => {
    const t = now(), going = isBackward();
    byId("share").textContent = going ? number(SHARES.W_hh[t]) : "–";
    byId("so-far").textContent = going ? `${number(SO_FAR[t])} of ${number(TOTALS.W_hh)}` : "–";
    drawPicture("picture-step", going ? PICTURES(t) : null);
    drawPicture("picture-sum", going ? pictureSum(t) : null);
  });
}
