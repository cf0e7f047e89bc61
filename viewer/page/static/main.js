// The viewer: what is open, what is drawn when, and what mouse, keys and panel do.
"use strict";

const FRAMES_BETWEEN = 30; // of a path, from one kept view to the next
const MOVING = 80; // milliseconds a picture may take while one moves, before it is drawn smaller
const $ = (selector) => document.querySelector(selector);

class Viewer {
  constructor(canvas, scene) {
    this.canvas = canvas;
    this.scene = scene;
    this.gl = canvas.getContext("webgl2", { antialias: false, alpha: false, preserveDrawingBuffer: true });
    if (!this.gl) throw new Error("this browser has no WebGL 2, which the page draws with");
    this.shapes = new Shapes(this.gl);
    this.camera = new Camera(scene.views.r);
    this.frame = 0;
    this.coarse = 1; // how many times smaller the picture is while one moves
    this.took = 0;
    this.layers = [];
    this.pictures = 0;
    this.path = [];
    this.picks = [];
  }

  async load() {
    const { layers, arrays } = await chunk(0);
    for (const described of layers) {
      const layer = { ...described, frames: [] };
      if (described.splat) {
        const worker = new Worker(URL.createObjectURL(new Blob([$("#sorter").textContent], { type: "text/javascript" })));
        layer.splats = new Splats(this.gl, worker, splatOf(described.splat, arrays));
        layer.splats.onsorted = () => this.wish();
      }
      this.layers.push(layer);
    }
    await this.show(0); // which brings what stands still
    if (this.scene.frame) await this.show(this.scene.frame);
    this.resize();
  }

  // Moment ``frame`` of every layer; what stands still stays.
  async show(frame) {
    const { layers, arrays } = await chunk(frame + 1);
    for (const [i, described] of layers.entries()) {
      if (!described) continue;
      const layer = this.layers[i], before = layer.variants;
      const variants = {};
      for (const [name, shapes] of Object.entries(described)) variants[name] = await shapesOf(shapes, arrays);
      layer.variants = variants;
      layer.bounds = boundsOf(Object.values(variants)[0] ?? []);
      for (const shapes of Object.values(before ?? {})) shapes.forEach((shape) => this.shapes.forget(shape));
    }
    this.frame = frame;
    this.wish();
  }

  wish() {
    if (this.wished) return;
    this.wished = true;
    requestAnimationFrame(() => { this.wished = false; this.draw(); });
  }

  resize() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2) / this.coarse;
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.wish();
  }

  // Near and far plane: all that is open, what this moment adds, and nothing behind the eye.
  range(k) {
    const boxes = [this.scene.extent, ...this.layers.map((layer) => layer.bounds).filter(Boolean)];
    const [low, high] = [Math.min, Math.max].map((of, end) => [0, 1, 2].map((a) => of(...boxes.map((box) => box[end][a]))));
    let near = Infinity, far = 0;
    for (let corner = 0; corner < 8; corner++) {
      const p = [0, 1, 2].map((a) => (corner & (1 << a) ? high[a] : low[a]));
      const z = dot(k.rows[2], p) + k.shift[2];
      near = Math.min(near, z); far = Math.max(far, z);
    }
    const size = norm(sub(high, low));
    return [Math.max(near * 0.5, size * 1e-4, 1e-4), Math.max(far * 20, size * 2)];
  }

  shownShapes(layer) {
    const shapes = layer.variants?.[layer.colour] ?? layer.variants?.[""] ?? [];
    return layer.photos === "hidden" ? shapes.filter((shape) => shape.kind !== "panels") : shapes;
  }

  draw() {
    const began = performance.now(), gl = this.gl, { width, height } = this.canvas;
    const k = this.camera.pinhole(width, height), range = this.range(k), clip = clipMatrix(k, width, height, ...range);
    gl.viewport(0, 0, width, height);
    const base = this.layers.find((layer) => layer.visible && layer.splats)?.splat.background ?? this.scene.background;
    gl.clearColor(...base, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const scale = width / this.canvas.clientWidth;
    for (const layer of this.layers) {
      if (!layer.visible) continue;
      for (const shape of this.shownShapes(layer)) this.shapes.draw(shape, layer, clip, k, width, height, range, scale);
    }
    // Far splats first: those that reach into one another are painted as if they did not.
    const away = (layer) => dot(k.rows[2], layer.splats.middle) + k.shift[2];
    const splats = this.layers.filter((layer) => layer.visible && layer.splats).sort((a, b) => away(b) - away(a));
    for (const layer of splats) {
      layer.splats.mode = layer.show;
      layer.splats.sort(k);
      layer.splats.draw(k, width, height, range);
    }
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); // waits until all is drawn
    this.took = performance.now() - began;
    this.pictures++;
    this.onpicture?.();
  }

  // Called with every movement: a picture that takes long is drawn smaller until one stops.
  moved() {
    if (this.took > MOVING && this.coarse < 4) this.coarse *= 2;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => { this.coarse = 1; this.resize(); }, 250);
    this.resize();
    this.onmoved?.();
  }

  // The point under a pixel of the window: of all dots and Gaussians near the ray the nearest, or null.
  pick(x, y) {
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    const k = this.camera.pinhole(width, height);
    let best = null, nearest = Infinity;
    const search = (xyz, solid) => {
      for (let i = 0; i < xyz.length; i += 3) {
        const p = [xyz[i], xyz[i + 1], xyz[i + 2]], z = dot(k.rows[2], p) + k.shift[2];
        if (z <= 0 || z >= nearest || !solid(i / 3)) continue;
        const u = (k.fx * (dot(k.rows[0], p) + k.shift[0])) / z + k.cx - x;
        const v = (k.fy * (dot(k.rows[1], p) + k.shift[1])) / z + k.cy - y;
        if (u * u + v * v < 36) { best = p; nearest = z; }
      }
    };
    for (const layer of this.layers.filter((one) => one.visible)) {
      for (const shape of this.shownShapes(layer)) {
        if (shape.kind === "dots") search(shape.xyz, (i) => !shape.scores || shape.scores[i] >= layer.score);
      }
      if (layer.splats) search(layer.splats.means, (i) => layer.splats.alphas[i] > 0.3);
    }
    return best;
  }

  lookThrough(index) {
    const photo = this.scene.photos[index];
    this.camera = new Camera(photo.view);
    this.camera.photo = photo;
    this.moved();
  }
}

// Lowest and highest corner of all dots and lines, or null where there are none.
function boundsOf(shapes) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const values of shapes.map((shape) => shape.xyz ?? shape.ends).filter(Boolean)) {
    for (let i = 0; i < values.length; i++) {
      const a = i % 3;
      if (values[i] < low[a]) low[a] = values[i];
      if (values[i] > high[a]) high[a] = values[i];
    }
  }
  return low[0] <= high[0] ? [low, high] : null;
}

function control(label, element) {
  const row = document.createElement("label");
  row.append(Object.assign(document.createElement("span"), { textContent: label }), element);
  return row;
}

function buildPanel(viewer) {
  const { scene } = viewer, list = $("#layers");
  for (const layer of viewer.layers) {
    const box = document.createElement("fieldset"), legend = document.createElement("legend");
    const tick = Object.assign(document.createElement("input"), { type: "checkbox", checked: layer.visible });
    tick.onchange = () => { layer.visible = tick.checked; viewer.wish(); };
    const title = document.createElement("label");
    title.append(tick, ` ${layer.name}`);
    legend.append(title);
    box.append(legend);
    for (const setting of layer.settings) {
      let input;
      if (setting.options) {
        input = document.createElement("select");
        for (const option of setting.options) input.append(new Option(option, option, false, option === layer[setting.name]));
        input.onchange = () => { layer[setting.name] = input.value; viewer.wish(); };
      } else {
        input = Object.assign(document.createElement("input"), { type: "range", min: setting.low, max: setting.high, step: "any" });
        input.value = layer[setting.name];
        input.oninput = () => { layer[setting.name] = Number(input.value); viewer.wish(); };
      }
      input.name = `${layer.name}/${setting.name}`;
      box.append(control(setting.name, input));
    }
    list.append(box);
  }
  if (scene.frames.length > 1) {
    const slider = $("#frame");
    slider.max = scene.frames.length - 1;
    $("#sequence").hidden = false;
    let wanted = viewer.frame, loading = false;
    slider.value = wanted;
    const follow = async () => {
      if (loading) return;
      loading = true;
      while (wanted !== viewer.frame) {
        const tried = wanted;
        try { await viewer.show(tried); } catch (error) {
          $("#frame-name").textContent = error.message;
          if (wanted === tried) break; // what was shown stays
        }
      }
      loading = false;
    };
    slider.oninput = () => { wanted = Number(slider.value); $("#frame-name").textContent = scene.frames[wanted] || wanted; follow(); };
    $("#frame-name").textContent = scene.frames[wanted] || wanted;
  }
  if (scene.photos.length) {
    $("#photos").hidden = false;
    const select = $("#photo");
    select.append(new Option("–", ""));
    scene.photos.forEach((photo, i) => select.append(new Option(`${i}: ${photo.name}`, i)));
    const over = $("#over"), context = over.getContext("2d");
    const blend = () => {
      const photo = viewer.camera.photo;
      const difference = $("#compare").value === "difference";
      over.hidden = !photo || !photo.bitmap || (!difference && Number($("#blend").value) === 0);
      if (over.hidden) return;
      Object.assign(over, { width: over.clientWidth, height: over.clientHeight });
      const scale = Math.min(over.width / photo.width, over.height / photo.height);
      const w = photo.width * scale, h = photo.height * scale;
      over.style.opacity = difference ? 1 : $("#blend").value;
      over.style.mixBlendMode = difference ? "difference" : "normal";
      context.drawImage(photo.bitmap, (over.width - w) / 2, (over.height - h) / 2, w, h);
    };
    if (viewer.camera.photo) select.value = scene.photos.indexOf(viewer.camera.photo);
    select.onchange = () => { if (select.value !== "") viewer.lookThrough(Number(select.value)); };
    $("#blend").oninput = $("#compare").onchange = blend;
    viewer.onmoved = () => { if (!viewer.camera.photo) select.value = ""; blend(); };
  }
}

function listen(viewer) {
  const { canvas } = viewer, pointers = new Map();
  let pinch = 0;
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    pinch = 0;
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => { pointers.delete(event.pointerId); pinch = 0; };
  canvas.onpointermove = (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const dx = (event.clientX - before[0]) / canvas.clientHeight, dy = (event.clientY - before[1]) / canvas.clientHeight;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    const camera = viewer.camera, view = 2 * Math.tan((camera.fov * Math.PI) / 360);
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()], apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (pinch) camera.nearer(clamp(pinch / apart, 0.5, 2));
      pinch = apart;
      camera.move((-dx / 2) * view, (-dy / 2) * view, 0);
    } else if (event.buttons === 2 || event.shiftKey) camera.move(-dx * view, -dy * view, 0);
    else if (event.buttons === 4 || event.ctrlKey) camera.look(-dx * view, -dy * view);
    else { camera.straighten(viewer.scene.up); camera.turn(dx * 4, dy * 4); }
    viewer.moved();
  };
  canvas.oncontextmenu = (event) => event.preventDefault();
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    viewer.camera.nearer(Math.exp(clamp(event.deltaY, -200, 200) / 600));
    viewer.moved();
  }, { passive: false });
  canvas.ondblclick = (event) => {
    const found = viewer.pick(event.offsetX, event.offsetY);
    if (!found) return;
    viewer.picks = [...viewer.picks.slice(-1), found];
    const [a, b] = viewer.picks;
    $("#measure").textContent = b
      ? `${norm(sub(a, b)).toPrecision(4)} between the two picks`
      : `at ${found.map((x) => x.toPrecision(4)).join(", ")}; double-click another point`;
  };
  const steps = { w: [0, 0, 1], s: [0, 0, -1], a: [-1, 0, 0], d: [1, 0, 0], q: [0, 1, 0], e: [0, -1, 0] };
  window.onkeydown = (event) => {
    if (["INPUT", "SELECT"].includes(event.target.tagName) || event.ctrlKey || event.metaKey) return;
    const key = event.key.toLowerCase(), step = steps[key];
    if (step) { viewer.camera.move(...step.map((x) => 0.05 * x)); viewer.moved(); }
    if (viewer.scene.views[key]) { viewer.camera = new Camera(viewer.scene.views[key]); viewer.moved(); }
    if (key === "k") keepView(viewer);
    const count = viewer.scene.frames.length, later = { "]": 1, "[": count - 1 }[key];
    if (later && count > 1) { $("#frame").value = (Number($("#frame").value) + later) % count; $("#frame").oninput(); }
  };
  $("#shot").onclick = () => { viewer.draw(); viewer.canvas.toBlob((blob) => save(blob, "view.png")); };
  $("#keep").onclick = () => keepView(viewer);
  $("#path").onclick = () => save(new Blob([JSON.stringify(pathOf(viewer), null, 1)], { type: "application/json" }), "path.json");
  $("#fold").onclick = () => document.body.classList.toggle("folded");
  new ResizeObserver(() => { viewer.resize(); viewer.onmoved?.(); }).observe(canvas);
}

function keepView(viewer) {
  viewer.path.push(new Camera(viewer.camera));
  countPath(viewer);
}

function countPath(viewer) {
  $("#path").disabled = viewer.path.length === 0;
  $("#path").textContent = viewer.path.length ? `Save path (${viewer.path.length})` : "Save path";
}

// As `recon3d render --path FILE.json` takes it: in the world of the photos' files.
function pathOf(viewer) {
  const { clientWidth: width, clientHeight: height } = viewer.canvas;
  const { sourceToScene, unit } = viewer.scene;
  const frames = along(viewer.path, FRAMES_BETWEEN).map((camera) => {
    const k = camera.pinhole(width, height);
    const moved = (row, shift) => sourceToScene[0].map((_, j) =>
      [0, 1, 2].reduce((sum, i) => sum + row[i] * sourceToScene[i][j], shift * sourceToScene[3][j]));
    const w2c = k.rows.map((row, i) => moved(row, k.shift[i]).map((x) => x * unit));
    return { width, height, fx: k.fx, fy: k.fy, cx: k.cx, cy: k.cy, w2c: [...w2c, [0, 0, 0, 1]] };
  });
  return { frames };
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// A served page shows anew what a running fit has written anew, from the same place and in the same way.
function watch(viewer, version) {
  setInterval(async () => {
    const answer = await fetch("version").catch(() => null);
    if (!answer || !answer.ok || (await answer.text()) === version) return;
    sessionStorage.setItem("state", JSON.stringify(stateOf(viewer)));
    location.reload();
  }, 3000);
}

function stateOf(viewer) {
  const { camera, frame, path, scene } = viewer, layers = {};
  for (const layer of viewer.layers) {
    layers[layer.name] = { visible: layer.visible };
    for (const { name } of layer.settings) layers[layer.name][name] = layer[name];
  }
  return { view: camera, photo: scene.photos.indexOf(camera.photo), frame, path, layers };
}

async function restore(viewer, { view, photo, frame, path, layers }) {
  for (const layer of viewer.layers) Object.assign(layer, layers[layer.name]);
  if (frame < viewer.scene.frames.length) await viewer.show(frame);
  viewer.path = path.map((one) => new Camera(one));
  countPath(viewer);
  viewer.camera = new Camera(view);
  viewer.camera.photo = viewer.scene.photos[photo] ?? null;
  viewer.wish();
}

async function main() {
  const scene = JSON.parse($("#scene").textContent);
  const viewer = new Viewer($("#view"), scene);
  await viewer.load();
  const kept = scene.version && sessionStorage.getItem("state");
  if (kept) { sessionStorage.removeItem("state"); await restore(viewer, JSON.parse(kept)); }
  const cameras = viewer.layers[scene.cameras]; // whose photos one can look through
  const panels = Object.values(cameras?.variants ?? {}).flat().filter((shape) => shape.kind === "panels");
  panels.forEach((panel) => { if (scene.photos[panel.photo]) scene.photos[panel.photo].bitmap = panel.bitmap; });
  buildPanel(viewer);
  listen(viewer);
  if (scene.version) watch(viewer, scene.version);
  return viewer;
}

window.view3d = main().then(
  (viewer) => { document.body.classList.add("ready"); return viewer; },
  (error) => { $("#message").textContent = `This scene cannot be shown: ${error.message}`; $("#message").hidden = false; throw error; },
);
