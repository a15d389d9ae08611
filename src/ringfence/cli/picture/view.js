// The map's window: zoom, pan, hover, and the keyboard. It reports what a person picks; main.js decides what follows.

const ZOOM = { least: 0.04, most: 3, step: 1.25 };

/** An interactive SVG in `stage`. `on` = { pick(id, kind), toggle(id), clear() }. */
function mapView(stage, on) {
  const frame = svg("svg", { class: "canvas", role: "group", "aria-label": "Traffic map. Tab through groups; Enter for details.", tabindex: "0" });
  const view = { x: 0, y: 0, scale: 1 };
  const pointers = new Map();
  let world = null;
  let extent = { width: 1, height: 1 };
  let moved = 0;
  let pinch = 0;
  frame.append(drawHeads());
  stage.append(frame);

  const apply = () => world?.setAttribute("transform", `translate(${view.x.toFixed(1)} ${view.y.toFixed(1)}) scale(${view.scale.toFixed(4)})`);

  function zoom(factor, at) {
    const box = frame.getBoundingClientRect();
    const [px, py] = at ? [at.x - box.left, at.y - box.top] : [box.width / 2, box.height / 2];
    const scale = Math.min(ZOOM.most, Math.max(ZOOM.least, view.scale * factor));
    view.x = px - ((px - view.x) * scale) / view.scale;
    view.y = py - ((py - view.y) * scale) / view.scale;
    view.scale = scale;
    apply();
  }

  function fit() {
    const box = frame.getBoundingClientRect();
    const margin = 36;
    view.scale = Math.min(1.2, Math.max(ZOOM.least, Math.min((box.width - 2 * margin) / extent.width, (box.height - 2 * margin) / extent.height)));
    view.x = (box.width - extent.width * view.scale) / 2;
    view.y = (box.height - extent.height * view.scale) / 2;
    apply();
  }

  /** Bring a place into the middle, near enough to read unless a scale is given. */
  function center(place, scale = null) {
    const box = frame.getBoundingClientRect();
    view.scale = scale ?? Math.max(view.scale, Math.min(1, (box.width - 80) / place.width));
    view.x = box.width / 2 - (place.x + place.width / 2) * view.scale;
    view.y = box.height / 2 - (place.y + place.height / 2) * view.scale;
    apply();
  }

  /** Move as little as shows a whole place; what is too large for the window is shrunk to it. */
  function reveal(place) {
    const box = frame.getBoundingClientRect();
    const scale = Math.min(view.scale, (box.width - 60) / place.width, (box.height - 60) / place.height);
    if (scale < view.scale) return center(place, scale);
    const nudge = (at, length, room) => (at < 30 ? 30 - at : at + length > room - 30 ? room - 30 - at - length : 0);
    view.x += nudge(view.x + place.x * scale, place.width * scale, box.width);
    view.y += nudge(view.y + place.y * scale, place.height * scale, box.height);
    return apply();
  }

  /** Show another drawing; with an anchor, that box stays where it is on the screen. */
  function show(drawing, size_, anchor) {
    world?.remove();
    world = drawing;
    extent = size_;
    frame.append(world);
    if (!anchor) return fit();
    view.x += (anchor.before.x - anchor.after.x) * view.scale;
    view.y += (anchor.before.y - anchor.after.y) * view.scale;
    return apply();
  }

  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), { x: event.clientX, y: event.clientY });
  }, { passive: false });
  frame.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    pointers.set(event.pointerId, event);
    moved = 0;
  });
  window.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    pointers.set(event.pointerId, event);
    moved += Math.abs(event.clientX - before.clientX) + Math.abs(event.clientY - before.clientY);
    if (pointers.size === 1) {
      view.x += event.clientX - before.clientX;
      view.y += event.clientY - before.clientY;
      frame.classList.toggle("panning", moved > 4);
      apply();
      return;
    }
    const [a, b] = [...pointers.values()];
    const apart = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    if (pinch) zoom(apart / pinch, { x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2 });
    pinch = apart;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    window.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      pinch = 0;
      frame.classList.remove("panning");
    });
  }
  frame.addEventListener("click", (event) => {
    if (moved > 4) return;
    pickAt(event.target);
  });
  frame.addEventListener("dblclick", (event) => {
    const box = event.target.closest("[data-box]");
    if (box && !event.target.closest("[data-toggle]")) on.toggle(box.dataset.box);
  });
  frame.addEventListener("keydown", (event) => onKey(event));

  function pickAt(target) {
    const toggled = target.closest("[data-toggle]");
    const box = target.closest("[data-box]");
    const line = target.closest("[data-bundle]") ?? target.closest("[data-label]");
    if (toggled) on.toggle(toggled.dataset.toggle);
    else if (line) on.pick(line.dataset.bundle ?? line.dataset.label, "bundle");
    else if (box) on.pick(box.dataset.box, "box");
    else on.clear();
  }

  function onKey(event) {
    const box = event.target.closest("[data-box]");
    const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && box) on.pick(box.dataset.box, "box");
    else if (event.key === " " && box) on.toggle(box.dataset.box);
    else if (event.key in moves && box) focusToward(box, moves[event.key].map((part) => -part));
    else if (event.key in moves) pan(moves[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(ZOOM.step);
    else if (event.key === "-") zoom(1 / ZOOM.step);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  }

  function pan([dx, dy]) {
    view.x += dx * 60;
    view.y += dy * 60;
    apply();
  }

  /** Move the focus to the nearest node in a direction. */
  function focusToward(from, [dx, dy]) {
    const middle = (element) => {
      const box = element.getBoundingClientRect();
      return { x: box.left + box.width / 2, y: box.top + box.height / 2 };
    };
    const here = middle(from);
    let best = null;
    for (const node of frame.querySelectorAll(".node")) {
      const there = middle(node);
      const along = (there.x - here.x) * dx + (there.y - here.y) * dy;
      const across = Math.abs((there.x - here.x) * dy) + Math.abs((there.y - here.y) * dx);
      if (node !== from && along > 8 && (!best || along + 2 * across < best.cost)) best = { node, cost: along + 2 * across };
    }
    best?.node.focus();
  }

  /** Light up some boxes and lines and let the rest step back; nothing lit shows everything. */
  function light(boxes, bundles) {
    frame.classList.toggle("has-lit", boxes.size + bundles.size > 0);
    for (const element of frame.querySelectorAll(".lit")) element.classList.remove("lit");
    for (const element of frame.querySelectorAll("[data-box], [data-bundle], [data-label]")) {
      const { box, bundle, label } = element.dataset;
      if (boxes.has(box) || bundles.has(bundle) || bundles.has(label)) element.classList.add("lit");
    }
  }

  function mark(id) {
    for (const element of frame.querySelectorAll(".picked")) element.classList.remove("picked");
    if (!id) return;
    for (const element of frame.querySelectorAll("[data-box], [data-bundle]")) {
      if (element.dataset.box === id || element.dataset.bundle === id) element.classList.add("picked");
    }
  }

  /** For print: the whole drawing in its own coordinates, whatever the window shows. */
  function forPrint(isPrinting) {
    if (!world) return;
    if (isPrinting) {
      frame.setAttribute("viewBox", `-16 -16 ${extent.width + 32} ${extent.height + 32}`);
      world.removeAttribute("transform");
    } else {
      frame.removeAttribute("viewBox");
      apply();
    }
  }

  return { frame, show, fit, zoom, center, reveal, light, mark, forPrint };
}

/** Zoom buttons and the legend, over the map. */
function mapOverlay(view, metric) {
  const button = (label, text, onclick) => el("button", { type: "button", title: label, "aria-label": label, onclick }, text);
  return [
    el("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
      button("Zoom in (+)", "+", () => view.zoom(ZOOM.step)), button("Zoom out (−)", "−", () => view.zoom(1 / ZOOM.step)),
      button("Fit to window (0)", "Fit", () => view.fit())),
    legend(metric),
  ];
}

function legend(metric) {
  const lines = ATTENTION.map((status) => {
    const { word, help } = STATUS.get(status);
    const line = svg("svg", { width: 44, height: 14, "aria-hidden": "true" },
      svg("path", { class: `strand stroke-${status}`, d: "M2 7H34", "stroke-width": 2.4, "marker-end": `url(#head-${status})` }));
    return el("li", { title: help }, line, word);
  });
  const holds = [["full", "all enforce"], ["some", "some enforce"], ["watch", "observed"], ["none", "not controlled"]];
  const shields = holds.map(([level, text]) => el("li", {}, svg("svg", { width: 16, height: 17, "aria-hidden": "true" }, drawShield({ level }, 1, 0.5)), text));
  return el("footer", { class: "legend", "aria-label": "Legend" }, el("ul", {}, lines), el("ul", { class: "shields" }, shields), el("label", {}, "Width", metric));
}
