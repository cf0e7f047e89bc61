// The worker: order of the Gaussians from far to near, and their colours as seen from where one looks.
"use strict";

let means, rgba, normals, harmonics, degree, scales, count, order, colours, keys;

const C1 = 0.4886025119029199;
const C2 = [1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396];
const C3 = [
  -0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154, -0.4570457994644658,
  1.445305721320277, -0.5900435899266435,
];

function basis(x, y, z, out) {
  out[0] = -C1 * y; out[1] = C1 * z; out[2] = -C1 * x;
  if (degree < 2) return;
  const xx = x * x, yy = y * y, zz = z * z;
  out[3] = C2[0] * x * y; out[4] = C2[1] * y * z; out[5] = C2[2] * (2 * zz - xx - yy);
  out[6] = C2[3] * x * z; out[7] = C2[4] * (xx - yy);
  if (degree < 3) return;
  out[8] = C3[0] * y * (3 * xx - yy); out[9] = C3[1] * x * y * z; out[10] = C3[2] * y * (4 * zz - xx - yy);
  out[11] = C3[3] * z * (2 * zz - 3 * xx - 3 * yy); out[12] = C3[4] * x * (4 * zz - xx - yy);
  out[13] = C3[5] * z * (xx - yy); out[14] = C3[6] * x * (xx - 3 * yy);
}

// Colours may be brighter than white before what is in front of them dims them: 1 is 16383, the largest is 4.
const fixed = (x) => (x < 0 ? 0 : x > 4 ? 65535 : Math.round(x * 16383));

// A polynomial that follows the Turbo colour map (Mikhailov, 2019).
function turbo(x) {
  const v = [1, x, x * x, x ** 3, x ** 4, x ** 5];
  const r = [0.13572138, 4.6153926, -42.66032258, 132.13108234, -152.94239396, 59.28637943];
  const g = [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604];
  const b = [0.1066733, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973];
  return [r, g, b].map((c) => c.reduce((sum, ci, i) => sum + ci * v[i], 0));
}

function paint(mode, rows, eye, range) {
  if (mode === "colour" && !degree) return false; // the colours do not depend on the view
  const y = new Float32Array(15), bands = degree ? (degree + 1) ** 2 - 1 : 0;
  for (let i = 0; i < count; i++) {
    const dx = means[3 * i] - eye[0], dy = means[3 * i + 1] - eye[1], dz = means[3 * i + 2] - eye[2];
    let r, g, b;
    if (mode === "depth") {
      const z = rows[2][0] * dx + rows[2][1] * dy + rows[2][2] * dz;
      [r, g, b] = turbo(Math.min(Math.max((1 / z - 1 / range[1]) / (1 / range[0] - 1 / range[1]), 0), 1));
    } else if (mode === "normals") {
      const n = [normals[3 * i], normals[3 * i + 1], normals[3 * i + 2]];
      const sign = n[0] * dx + n[1] * dy + n[2] * dz > 0 ? -1 : 1;
      const along = (row) => (sign * (row[0] * n[0] + row[1] * n[1] + row[2] * n[2])) / 2;
      r = 0.5 + along(rows[0]); g = 0.5 - along(rows[1]); b = 0.5 - along(rows[2]);
    } else {
      const s = 1 / Math.max(Math.hypot(dx, dy, dz), 1e-12);
      basis(dx * s, dy * s, dz * s, y);
      r = rgba[4 * i]; g = rgba[4 * i + 1]; b = rgba[4 * i + 2];
      for (let k = 0, at = i * bands * 3; k < bands; k++, at += 3) {
        const w = y[k] * scales[k];
        r += w * harmonics[at]; g += w * harmonics[at + 1]; b += w * harmonics[at + 2];
      }
    }
    colours[4 * i] = fixed(r); colours[4 * i + 1] = fixed(g); colours[4 * i + 2] = fixed(b);
    colours[4 * i + 3] = fixed(rgba[4 * i + 3]);
  }
  return true;
}

// Counting sort by 16 bits of log z: as fine far away as what one sees there.
function sort(rows, shift, near) {
  let low = Infinity, high = 0, kept = 0;
  const [a, b, c] = rows[2], d = shift[2];
  for (let i = 0; i < count; i++) {
    const z = a * means[3 * i] + b * means[3 * i + 1] + c * means[3 * i + 2] + d;
    keys[i] = z;
    if (z > near) { low = Math.min(low, z); high = Math.max(high, z); kept++; }
  }
  const bins = new Uint32Array(65537), factor = 65535 / Math.max(Math.log(high / low), 1e-6);
  const codes = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    if (keys[i] > near) { codes[i] = 65535 - Math.log(keys[i] / low) * factor; bins[codes[i] + 1]++; }
  }
  for (let i = 0; i < 65536; i++) bins[i + 1] += bins[i];
  for (let i = 0; i < count; i++) if (keys[i] > near) order[bins[codes[i]]++] = i;
  return kept;
}

onmessage = ({ data }) => {
  if (data.load) {
    ({ means, rgba, normals, harmonics, degree, scales } = data.load);
    count = means.length / 3;
    order = new Uint32Array(count);
    keys = new Float32Array(count);
    colours = new Uint16Array(4 * count);
    return;
  }
  const { rows, shift, eye, near, mode, repaint } = data;
  const kept = sort(rows, shift, near);
  // Colours of depth spread over what lies ahead, without its nearest and farthest fiftieth.
  const at = (share) => (kept ? keys[order[Math.floor(share * (kept - 1))]] : 1);
  const range = [at(0.98), Math.max(at(0.02), at(0.98) * 1.001)];
  let painted = paint(mode, rows, eye, range);
  if (!painted && repaint) {
    for (let i = 0; i < 4 * count; i++) colours[i] = fixed(rgba[i]);
    painted = true;
  }
  postMessage({ order: order.slice(0, kept), colours: painted ? colours : null });
};
