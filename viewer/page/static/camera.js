// Where one looks from: the twin of viewer/viewpoint.py. Camera axes are x right, y down, z forward.
"use strict";

const add = (a, b, s = 1) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
const sub = (a, b) => add(a, b, -1);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const norm = (a) => Math.hypot(a[0], a[1], a[2]);
const unit = (a) => { const n = Math.max(norm(a), 1e-300); return [a[0] / n, a[1] / n, a[2] / n]; };
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

function rotated(v, axis, angle) {
  const c = Math.cos(angle), s = Math.sin(angle);
  return add(add([c * v[0], c * v[1], c * v[2]], cross(axis, v), s), axis, dot(axis, v) * (1 - c));
}

const STEEPEST = (89 * Math.PI) / 180;

class Camera {
  constructor({ eye, target, up, fov }) {
    Object.assign(this, { eye, target, up: unit(up), fov });
    this.photo = null; // an exact camera that is looked through, until one moves
  }

  get distance() { return norm(sub(this.target, this.eye)); }

  get axes() {
    const forward = unit(sub(this.target, this.eye));
    let right = cross(forward, this.up);
    if (norm(right) < 1e-9) right = cross(forward, [this.up[2], this.up[0], this.up[1]]);
    right = unit(right);
    return [right, cross(forward, right), forward];
  }

  // Of a view straight down the same a hair off the vertical, so that one goes around ``up``.
  straighten(up) {
    if (dot(unit(sub(this.eye, this.target)), up) < Math.cos(1e-3) || Math.abs(dot(this.up, up)) > 1e-3) return;
    const away = add(add([0, 0, 0], up, Math.sin(STEEPEST)), this.up, -Math.cos(STEEPEST));
    this.eye = add(this.target, away, this.distance);
    this.up = up;
  }

  turn(right, down) {
    this.photo = null;
    const offset = sub(this.eye, this.target);
    const height = Math.asin(clamp(dot(unit(offset), this.up), -1, 1));
    const by = clamp(height + down, -STEEPEST, STEEPEST) - height;
    this.eye = add(this.target, rotated(rotated(offset, this.axes[0], -by), this.up, -right));
  }

  look(right, down) {
    this.photo = null;
    const forward = sub(this.target, this.eye);
    const height = Math.asin(clamp(dot(unit(forward), this.up), -1, 1));
    const by = height - clamp(height - down, -STEEPEST, STEEPEST);
    this.target = add(this.eye, rotated(rotated(forward, this.axes[0], -by), this.up, -right));
  }

  move(right, down, forward) {
    this.photo = null;
    const axes = this.axes, d = this.distance;
    const step = add(add(add([0, 0, 0], axes[0], right * d), axes[1], down * d), axes[2], forward * d);
    this.eye = add(this.eye, step);
    this.target = add(this.target, step);
  }

  nearer(factor) {
    this.photo = null;
    this.eye = add(this.target, sub(this.eye, this.target), factor);
  }

  // Rotation rows, translation, and intrinsics in pixels of a picture of width x height.
  pinhole(width, height) {
    if (this.photo) {
      const p = this.photo, scale = Math.min(width / p.width, height / p.height);
      const dx = (width - p.width * scale) / 2, dy = (height - p.height * scale) / 2;
      return {
        rows: [p.w2c[0].slice(0, 3), p.w2c[1].slice(0, 3), p.w2c[2].slice(0, 3)],
        shift: [p.w2c[0][3], p.w2c[1][3], p.w2c[2][3]],
        fx: p.fx * scale, fy: p.fy * scale, cx: p.cx * scale + dx, cy: p.cy * scale + dy, eye: this.eye,
      };
    }
    const rows = this.axes, f = height / 2 / Math.tan((this.fov * Math.PI) / 360);
    const shift = rows.map((row) => -dot(row, this.eye));
    return { rows, shift, fx: f, fy: f, cx: width / 2, cy: height / 2, eye: this.eye };
  }

  toJSON() { return { eye: this.eye, target: this.target, up: this.up, fov: this.fov }; }
}

// A smooth path through cameras, so many steps from one to the next (Catmull and Rom, 1974).
function along(cameras, between) {
  const path = [], last = cameras.length - 1;
  for (let i = 0; i < last; i++) {
    const [a, b, c, d] = [i - 1, i, i + 1, i + 2].map((j) => cameras[clamp(j, 0, last)]);
    for (let step = 0; step < between; step++) {
      const t = step / between, t2 = t * t, t3 = t2 * t;
      const weights = [-t + 2 * t2 - t3, 2 - 5 * t2 + 3 * t3, t + 4 * t2 - 3 * t3, t3 - t2];
      const mixed = (name) => [a, b, c, d].reduce((sum, one, k) => add(sum, one[name], weights[k] / 2), [0, 0, 0]);
      const up = add([0, 0, 0].map((_, k) => (1 - t) * b.up[k]), c.up, t);
      path.push(new Camera({ eye: mixed("eye"), target: mixed("target"), up, fov: (1 - t) * b.fov + t * c.fov }));
    }
  }
  return [...path, ...cameras.slice(last)];
}

// Column-major clip matrix of a pinhole: OpenGL's clip space has y up and z forward into -1..1.
function clipMatrix(k, width, height, near, far) {
  const a = (far + near) / (far - near), b = (-2 * far * near) / (far - near);
  const matrix = new Float32Array(16);
  for (let j = 0; j < 4; j++) {
    const x = j < 3 ? k.rows[0][j] : k.shift[0], y = j < 3 ? k.rows[1][j] : k.shift[1];
    const z = j < 3 ? k.rows[2][j] : k.shift[2];
    matrix[4 * j] = (2 * k.fx * x) / width + ((2 * k.cx) / width - 1) * z;
    matrix[4 * j + 1] = (-2 * k.fy * y) / height + (1 - (2 * k.cy) / height) * z;
    matrix[4 * j + 2] = a * z + (j === 3 ? b : 0);
    matrix[4 * j + 3] = z;
  }
  return matrix;
}
