// From packed bytes to arrays: the twin of viewer/page/packing.py.
"use strict";

async function unpacked(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// Chunk ``index``: from the page itself, or from the server that gave it.
async function chunk(index) {
  const element = document.getElementById(`chunk-${index}`);
  let bytes;
  if (element) {
    const text = atob(element.textContent);
    bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    if (index === 0) element.remove(); // what is shown once; a moment may be shown again
  } else {
    const answer = await fetch(`chunk/${index}`);
    if (!answer.ok) throw new Error(answer.status === 422 ? await answer.text() : `the server answers ${answer.status}`);
    bytes = await answer.arrayBuffer();
  }
  const buffer = await unpacked(bytes);
  const length = new DataView(buffer).getUint32(0, true);
  const contents = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const types = { f4: Float32Array, u1: Uint8Array };
  const arrays = contents.arrays.map(([type, offset, size]) => new types[type](buffer, offset, size));
  return { layers: contents.layers, arrays };
}

async function shapesOf(described, arrays) {
  return Promise.all(described.map(async (one) => {
    const shape = { ...one };
    for (const name of ["xyz", "rgb", "ends", "scores", "corners"]) {
      if (one[name] !== undefined) shape[name] = one[name] === null ? null : arrays[one[name]];
    }
    if (one.image !== undefined) {
      shape.bitmap = await createImageBitmap(new Blob([arrays[one.image]], { type: "image/jpeg" }));
    }
    return shape;
  }));
}

// Bytes of several planes, lowest first, as whole numbers.
function whole(bytes, planes, count) {
  const out = new Float64Array(count);
  for (let p = 0, unit = 1; p < planes; p++, unit *= 256) {
    for (let i = 0; i < count; i++) out[i] += unit * bytes[p * count + i];
  }
  return out;
}

function splatOf(d, arrays) {
  const n = d.count, bands = d.degree ? (d.degree + 1) ** 2 - 1 : 0;
  const means = new Float32Array(3 * n), scales3 = new Float32Array(3 * n), rgba = new Float32Array(4 * n);
  const quats = new Float32Array(4 * n), harmonics = new Float32Array(3 * bands * n);
  for (let axis = 0; axis < 3; axis++) {
    const steps = whole(arrays[d.means[axis]], 3, n);
    for (let i = 0; i < n; i++) {
      const share = (steps[i] / 8388607.5 - 1) * d.reach[axis];
      means[3 * i + axis] = d.centre[axis] + d.unit * Math.sinh(share);
    }
  }
  const spread = (name, width, out, pick) => {
    const bytes = arrays[d[name]];
    for (let c = 0; c < width; c++) for (let i = 0; i < n; i++) out[width * i + c] = pick(bytes[c * n + i], c);
  };
  spread("scales", 3, scales3, (b) => d.scaleRange[0] + (b / 255) * (d.scaleRange[1] - d.scaleRange[0]));
  spread("quats", 4, quats, (b) => b - 127);
  spread("rgba", 4, rgba, (b, c) => (c === 3 ? b / 255 : d.colourRange[0] + (b / 255) * (d.colourRange[1] - d.colourRange[0])));
  if (bands) spread("harmonics", 3 * bands, harmonics, (b) => (b - 127) / 127);
  return { means, scales3, quats, rgba, harmonics, degree: d.degree, scales: d.harmonicScales, antialiased: d.antialiased };
}
