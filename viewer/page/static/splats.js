// Splats: a texture holds what does not change, the worker says in which order and colours to draw.
"use strict";

const ROW = 1024; // Gaussians in a row of the textures
const BATCH = 1024; // Gaussians of an instance: drawn one by one they would keep no graphics card busy
const SPLAT_NEAR = 0.01;

const SPLAT_VERTEX = `#version 300 es
precision highp float; precision highp int; precision highp usampler2D; precision highp sampler2D;
uniform sampler2D shape; uniform usampler2D colours; uniform usampler2D order; uniform uint count;
uniform mat3 rotation; uniform vec3 shift; uniform vec4 lens; uniform vec2 size; uniform vec2 range; uniform bool antialiased;
out vec4 colour; out vec2 offset;
void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);
  uint slot = uint(gl_InstanceID) * ${BATCH}u + uint(gl_VertexID) / 4u;
  if (slot >= count) return;
  uint index = texelFetch(order, ivec2(int(slot % ${ROW}u), int(slot / ${ROW}u)), 0).r;
  vec2 corner = vec2(gl_VertexID & 1, (gl_VertexID >> 1) & 1) * 2.0 - 1.0;
  ivec2 at = ivec2(int(index % ${ROW}u), int(index / ${ROW}u));
  vec4 a = texelFetch(shape, ivec2(3 * at.x, at.y), 0);
  vec4 b = texelFetch(shape, ivec2(3 * at.x + 1, at.y), 0);
  vec4 c = texelFetch(shape, ivec2(3 * at.x + 2, at.y), 0);
  vec3 p = rotation * a.xyz + shift;
  if (p.z < ${SPLAT_NEAR}) return;
  colour = vec4(texelFetch(colours, at, 0)) / 16383.0;
  // The projection is made straight about where the centre is, or the nearest place a little outside the picture.
  vec2 reach = 0.15 * size / lens.xy;
  vec2 low = -lens.zw / lens.xy - reach, high = (size - lens.zw) / lens.xy + reach;
  vec2 ray = clamp(p.xy / p.z, low, high);
  mat3 sigma = rotation * mat3(b.x, b.y, b.z, b.y, b.w, c.x, b.z, c.x, c.y) * transpose(rotation);
  vec3 jx = vec3(lens.x / p.z, 0.0, -lens.x * ray.x / p.z), jy = vec3(0.0, lens.y / p.z, -lens.y * ray.y / p.z);
  float xx = dot(jx, sigma * jx), xy = dot(jx, sigma * jy), yy = dot(jy, sigma * jy);
  float before = xx * yy - xy * xy;
  xx += 0.3; yy += 0.3;
  float determinant = xx * yy - xy * xy;
  if (determinant <= 0.0) return;
  if (antialiased) colour.a *= sqrt(max(before / determinant, 0.0));
  if (colour.a < 1.0 / 255.0) return;
  float middle = 0.5 * (xx + yy), spread = sqrt(max(middle * middle - determinant, 1e-12));
  float major = middle + spread, minor = max(middle - spread, 1e-6);
  vec2 axis = abs(xy) > 1e-12 ? normalize(vec2(xy, major - xx)) : (xx >= yy ? vec2(1, 0) : vec2(0, 1));
  float extent = sqrt(2.0 * log(255.0 * colour.a)) + 0.01;
  offset = extent * corner;
  vec2 pixel = lens.xy * p.xy / p.z + lens.zw + sqrt(major) * offset.x * axis + sqrt(minor) * offset.y * vec2(-axis.y, axis.x);
  float depth = (range.y + range.x) / (range.y - range.x) - 2.0 * range.y * range.x / ((range.y - range.x) * p.z);
  gl_Position = vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, clamp(depth, -1.0, 1.0), 1.0);
}`;

const SPLAT_FRAGMENT = `#version 300 es
precision highp float;
in vec4 colour; in vec2 offset; out vec4 seen;
void main() {
  float alpha = min(0.999, colour.a * exp(-0.5 * dot(offset, offset)));
  if (alpha < 1.0 / 255.0) discard;
  seen = vec4(colour.rgb * alpha, alpha);
}`;

class Splats {
  constructor(gl, worker, data) {
    Object.assign(this, { gl, worker, antialiased: data.antialiased, means: data.means, count: data.means.length / 3 });
    this.middle = [0, 1, 2].map((a) => meanOf(data.means, a));
    this.mode = "colour";
    this.drawn = 0;
    this.asked = null;
    this.busy = false;
    this.program = makeProgram(gl, SPLAT_VERTEX, SPLAT_FRAGMENT);
    const rows = Math.max(1, Math.ceil(this.count / ROW));
    const shape = new Float32Array(rows * ROW * 12);
    const normals = new Float32Array(3 * this.count);
    for (let i = 0; i < this.count; i++) fillShape(data, i, shape, normals);
    this.alphas = new Float32Array(this.count);
    for (let i = 0; i < this.count; i++) this.alphas[i] = data.rgba[4 * i + 3];
    this.shape = makeTexture(gl, gl.RGBA32F, 3 * ROW, rows, gl.RGBA, gl.FLOAT, shape);
    this.rows = rows;
    this.painted = new Uint16Array(rows * ROW * 4);
    this.colours = makeTexture(gl, gl.RGBA16UI, ROW, rows, gl.RGBA_INTEGER, gl.UNSIGNED_SHORT, this.painted);
    this.sorted = new Uint32Array(rows * ROW);
    this.order = makeTexture(gl, gl.R32UI, ROW, rows, gl.RED_INTEGER, gl.UNSIGNED_INT, this.sorted);
    const corners = new Uint16Array(6 * BATCH);
    for (let i = 0; i < BATCH; i++) corners.set([0, 1, 2, 2, 1, 3].map((corner) => 4 * i + corner), 6 * i);
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, corners, gl.STATIC_DRAW);
    gl.bindVertexArray(null);
    const { harmonics, degree, scales, rgba } = data;
    worker.postMessage({ load: { means: data.means, rgba, normals, harmonics, degree, scales } });
    worker.onmessage = ({ data: answer }) => this.take(answer);
  }

  // Asks for an order; while one is being made only the last wish is kept.
  sort(k) {
    const key = JSON.stringify([k.rows, k.shift, this.mode]);
    if (key === this.key) return;
    this.key = key;
    this.asked = { rows: k.rows, shift: k.shift, eye: k.eye, near: SPLAT_NEAR, mode: this.mode };
    if (!this.busy) this.send();
  }

  send() {
    this.busy = true;
    this.worker.postMessage({ ...this.asked, repaint: this.asked.mode !== this.shown });
    this.shown = this.asked.mode;
    this.asked = null;
  }

  take({ order, colours }) {
    const gl = this.gl;
    this.sorted.set(order);
    gl.bindTexture(gl.TEXTURE_2D, this.order);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, ROW, this.rows, gl.RED_INTEGER, gl.UNSIGNED_INT, this.sorted);
    if (colours) {
      this.painted.set(colours);
      gl.bindTexture(gl.TEXTURE_2D, this.colours);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, ROW, this.rows, gl.RGBA_INTEGER, gl.UNSIGNED_SHORT, this.painted);
    }
    this.drawn = order.length;
    this.busy = false;
    if (this.asked) this.send();
    this.onsorted();
  }

  get settled() { return !this.busy && !this.asked; }

  draw(k, width, height, range) {
    const gl = this.gl, use = this.program;
    gl.useProgram(use.program);
    gl.uniformMatrix3fv(use.at("rotation"), true, k.rows.flat());
    gl.uniform3fv(use.at("shift"), k.shift);
    gl.uniform4f(use.at("lens"), k.fx, k.fy, k.cx, k.cy);
    gl.uniform2f(use.at("size"), width, height);
    gl.uniform2f(use.at("range"), range[0], range[1]);
    gl.uniform1i(use.at("antialiased"), this.antialiased);
    gl.uniform1ui(use.at("count"), this.drawn);
    for (const [unit, name] of [[0, "shape"], [1, "colours"], [2, "order"]]) {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, this[name]);
      gl.uniform1i(use.at(name), unit);
    }
    gl.activeTexture(gl.TEXTURE0);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL); // what is beyond the far plane is drawn on it
    gl.depthMask(false);
    gl.bindVertexArray(this.array);
    gl.drawElementsInstanced(gl.TRIANGLES, 6 * BATCH, gl.UNSIGNED_SHORT, 0, Math.ceil(this.drawn / BATCH));
    gl.bindVertexArray(null);
    gl.depthMask(true);
  }
}

function meanOf(values, first) {
  let sum = 0;
  for (let i = first; i < values.length; i += 3) sum += values[i];
  return sum / Math.max(values.length / 3, 1);
}

// Covariance R diag(s)^2 R^T of Gaussian i, and the axis along which it is thinnest.
function fillShape({ means, scales3, quats }, i, shape, normals) {
  const [w, x, y, z] = unitQuaternion(quats, 4 * i);
  const r = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
  const s = [0, 1, 2].map((j) => Math.exp(scales3[3 * i + j]) ** 2);
  const covariance = (a, b) => r[a][0] * s[0] * r[b][0] + r[a][1] * s[1] * r[b][1] + r[a][2] * s[2] * r[b][2];
  shape.set([means[3 * i], means[3 * i + 1], means[3 * i + 2], 0, covariance(0, 0), covariance(0, 1),
    covariance(0, 2), covariance(1, 1), covariance(1, 2), covariance(2, 2)], 12 * i);
  const thin = s.indexOf(Math.min(...s));
  normals.set([r[0][thin], r[1][thin], r[2][thin]], 3 * i);
}

function unitQuaternion(q, at) {
  const n = Math.max(Math.hypot(q[at], q[at + 1], q[at + 2], q[at + 3]), 1e-12);
  return [q[at] / n, q[at + 1] / n, q[at + 2] / n, q[at + 3] / n];
}
