// Dots, lines and flat pictures: what is not a splat.
"use strict";

function makeProgram(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  const places = new Map();
  const at = (name) => places.get(name) ?? (places.set(name, gl.getUniformLocation(program, name)), places.get(name));
  return { program, at };
}

function makeTexture(gl, internal, width, height, format, type, values) {
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  for (const name of ["MIN_FILTER", "MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl.NEAREST);
  gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, height, 0, format, type, values);
  return texture;
}

const GROW = "uniform vec3 centre; uniform float grow; vec3 grown(vec3 p) { return centre + grow * (p - centre); }";

const DOT_VERTEX = `#version 300 es
precision highp float;
uniform mat4 clip; uniform float width; uniform float least;
layout(location = 0) in vec3 place; layout(location = 1) in vec3 rgb; layout(location = 2) in float score;
out vec3 colour;
void main() {
  gl_Position = score < least ? vec4(0.0, 0.0, 2.0, 1.0) : clip * vec4(place, 1.0);
  gl_PointSize = width; colour = rgb;
}`;

const LINE_VERTEX = `#version 300 es
precision highp float;
uniform mat4 clip; uniform float width; uniform vec2 size; uniform float near; uniform float least; ${GROW}
layout(location = 0) in vec3 first; layout(location = 1) in vec3 second; layout(location = 2) in vec3 rgb;
layout(location = 3) in float score; layout(location = 4) in vec2 corner;
out vec3 colour;
void main() {
  vec4 a = clip * vec4(grown(first), 1.0), b = clip * vec4(grown(second), 1.0);
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);
  if (score < least || (a.w < near && b.w < near)) return;
  if (a.w < near) a = mix(a, b, (near - a.w) / (b.w - a.w));
  if (b.w < near) b = mix(b, a, (near - b.w) / (a.w - b.w));
  vec2 along = (b.xy / b.w - a.xy / a.w) * size;
  along = length(along) > 1e-6 ? normalize(along) : vec2(1.0, 0.0);
  vec4 end = corner.x < 0.0 ? a : b;
  end.xy += corner.y * width * vec2(-along.y, along.x) / size * end.w;
  gl_Position = end; colour = rgb;
}`;

const FLAT_FRAGMENT = `#version 300 es
precision highp float;
in vec3 colour; out vec4 seen;
void main() { seen = vec4(colour, 1.0); }`;

const PANEL_VERTEX = `#version 300 es
precision highp float;
uniform mat4 clip; ${GROW}
layout(location = 0) in vec3 place; layout(location = 1) in vec2 at;
out vec2 where;
void main() { gl_Position = clip * vec4(grown(place), 1.0); where = at; }`;

const PANEL_FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D picture; in vec2 where; out vec4 seen;
void main() { seen = vec4(texture(picture, where).rgb, 1.0); }`;

class Shapes {
  constructor(gl) {
    this.gl = gl;
    this.dots = makeProgram(gl, DOT_VERTEX, FLAT_FRAGMENT);
    this.lines = makeProgram(gl, LINE_VERTEX, FLAT_FRAGMENT);
    this.panels = makeProgram(gl, PANEL_VERTEX, PANEL_FRAGMENT);
    this.buffers = new Map();
    this.corners = this.buffer(new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]));
  }

  buffer(values) {
    const gl = this.gl;
    if (!this.buffers.has(values)) {
      const made = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, made);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      this.buffers.set(values, made);
    }
    return this.buffers.get(values);
  }

  attribute(place, values, size, divisor, { bytes = false, stride = 0, offset = 0 } = {}) {
    const gl = this.gl;
    if (!values) { gl.vertexAttrib1f(place, Infinity); return; }
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer(values));
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, bytes ? gl.UNSIGNED_BYTE : gl.FLOAT, bytes, stride, offset);
    gl.vertexAttribDivisor(place, divisor);
  }

  // What a primitive is drawn from; forget() gives it back.
  prepare(shape) {
    if (shape.array) return;
    const gl = this.gl;
    shape.array = gl.createVertexArray();
    gl.bindVertexArray(shape.array);
    if (shape.kind === "dots") {
      this.attribute(0, shape.xyz, 3, 0);
      this.attribute(1, shape.rgb, 3, 0, { bytes: true });
      this.attribute(2, shape.scores, 1, 0);
    } else if (shape.kind === "lines") {
      this.attribute(0, shape.ends, 3, 1, { stride: 24 });
      this.attribute(1, shape.ends, 3, 1, { stride: 24, offset: 12 });
      this.attribute(2, shape.rgb, 3, 1, { bytes: true });
      this.attribute(3, shape.scores, 1, 1);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.corners);
      gl.enableVertexAttribArray(4);
      gl.vertexAttribPointer(4, 2, gl.FLOAT, false, 0, 0);
    } else {
      const [tl, tr, br, bl] = [0, 3, 6, 9].map((i) => shape.corners.subarray(i, i + 3));
      this.attribute(0, new Float32Array([...tl, ...tr, ...bl, ...br]), 3, 0);
      this.attribute(1, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), 2, 0);
      shape.texture = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, shape.texture);
      gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, shape.bitmap);
      gl.generateMipmap(gl.TEXTURE_2D);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    }
    gl.bindVertexArray(null);
  }

  draw(shape, layer, clip, k, width, height, range, scale) {
    const around = shape.around, gl = this.gl;
    const grow = around ? (layer.size ?? 1) : 1;
    if (around && norm(sub(k.eye, around.centre)) < around.radius * grow) return;
    this.prepare(shape);
    const use = this[shape.kind];
    gl.useProgram(use.program);
    gl.uniformMatrix4fv(use.at("clip"), false, clip);
    gl.uniform3fv(use.at("centre"), around ? around.centre : [0, 0, 0]);
    gl.uniform1f(use.at("grow"), grow);
    gl.uniform1f(use.at("least"), layer.score > 0 ? layer.score : -Infinity);
    gl.uniform2f(use.at("size"), width, height);
    gl.uniform1f(use.at("near"), range[0]);
    gl.disable(gl.BLEND);
    gl.enable(gl.DEPTH_TEST);
    gl.bindVertexArray(shape.array);
    if (shape.kind === "dots") {
      gl.uniform1f(use.at("width"), Math.max(1, (layer.size ?? shape.size) * scale));
      gl.drawArrays(gl.POINTS, 0, shape.xyz.length / 3);
    } else if (shape.kind === "lines") {
      gl.uniform1f(use.at("width"), Math.max(1, (layer.width ?? shape.size) * scale));
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, shape.ends.length / 6);
    } else {
      gl.bindTexture(gl.TEXTURE_2D, shape.texture);
      gl.uniform1i(use.at("picture"), 0);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    }
    gl.bindVertexArray(null);
  }

  forget(shape) {
    const gl = this.gl;
    if (shape.array) gl.deleteVertexArray(shape.array);
    if (shape.texture) gl.deleteTexture(shape.texture);
    for (const values of [shape.xyz, shape.rgb, shape.ends, shape.scores]) {
      if (this.buffers.has(values)) { gl.deleteBuffer(this.buffers.get(values)); this.buffers.delete(values); }
    }
    shape.array = shape.texture = null;
  }
}
