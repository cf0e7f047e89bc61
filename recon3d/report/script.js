"use strict";

// Compare: the render is cut off right of the handle, over what was chosen to lie beside it.
for (const viewer of document.querySelectorAll(".viewer")) {
  const stages = [...viewer.querySelectorAll(".stage")];
  const tabs = [...viewer.querySelectorAll("[data-view]")];
  const kinds = [...viewer.querySelectorAll("[data-kind]")];

  for (const stage of stages) {
    const slider = stage.querySelector("input");
    const move = () => stage.style.setProperty("--split", `${slider.value}%`);
    slider.addEventListener("input", move);
    move();
  }
  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      stages.forEach((stage, i) => { stage.hidden = String(i) !== tab.dataset.view; });
      tabs.forEach((other) => other.setAttribute("aria-pressed", String(other === tab)));
    });
  }
  for (const kind of kinds) {
    kind.addEventListener("click", () => {
      kinds.forEach((other) => other.setAttribute("aria-pressed", String(other === kind)));
      for (const image of viewer.querySelectorAll(".beside")) {
        image.hidden = !image.classList.contains(kind.dataset.kind);
      }
      for (const label of viewer.querySelectorAll(".label.right")) label.textContent = kind.textContent;
    });
  }
}

// Curves: steps or seconds below, and the values under the pointer.
for (const choice of document.querySelectorAll("[data-axis]")) {
  choice.addEventListener("click", () => {
    choice.closest("section").dataset.shown = choice.dataset.axis;
    for (const other of choice.parentElement.children) {
      other.setAttribute("aria-pressed", String(other === choice));
    }
  });
}
for (const svg of document.querySelectorAll(".chart svg")) {
  const plots = [...svg.querySelectorAll(".cursor")].map((cursor) => ({
    cursor, points: JSON.parse(cursor.dataset.points),
    dot: cursor.querySelector("circle"), text: cursor.querySelector("text"),
  }));
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    for (const { cursor, points, dot, text } of plots) {
      const near = points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
      dot.setAttribute("cx", near[0]);
      dot.setAttribute("cy", near[1]);
      text.textContent = `${near[3]} at ${near[2]}`;
      const right = near[0] > svg.viewBox.baseVal.width / 2;
      text.setAttribute("x", near[0] + (right ? -8 : 8));
      text.setAttribute("y", Math.max(near[1] - 8, 12));
      text.setAttribute("text-anchor", right ? "end" : "start");
      cursor.classList.add("on");
    }
  });
  svg.addEventListener("pointerleave", () => plots.forEach(({ cursor }) => cursor.classList.remove("on")));
}
