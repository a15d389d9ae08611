// The page: one state, shown as map, matrix or table; filters, search, the panel, the address bar, print and keys.

const LABELS_MOST = 60;
const VIEWS = ["map", "matrix", "table"];

function start() {
  const model = readModel(JSON.parse(document.getElementById("document").textContent));
  model.firstOpen = firstOpen(model);
  const state = {
    view: "map", open: new Set(model.firstOpen), where: new Map(), focus: null, statuses: new Set(STATUSES), service: "", query: "",
    metric: "connections", sort: { at: 0, down: false }, picked: null,
  };
  const page = {
    model, state, stage: document.getElementById("stage"), panel: document.getElementById("panel"), tip: document.getElementById("tip"),
    map: null, scene: null, laid: null,
  };
  readAddress(page);
  buildHeader(page);
  buildFilters(page);
  wireKeys(page);
  wirePrint(page);
  render(page);
}

/** Draw everything for the present state. With an anchor box the map does not jump. */
function render(page, anchorId = null) {
  const { model, state, stage } = page;
  const before = anchorId && page.places?.get(anchorId);
  page.scene = scene(model, state);
  for (const bundle of page.scene.bundles) bundle.tally = tally(bundle.edges, state);
  page.bundles = new Map(page.scene.bundles.map((bundle) => [bundle.id, bundle]));
  page.on = actions(page);
  for (const tab of document.querySelectorAll("[data-view]")) {
    const isOn = tab.dataset.view === state.view;
    tab.setAttribute("aria-selected", isOn);
    tab.tabIndex = isOn ? 0 : -1;
  }
  stage.dataset.view = state.view;
  if (state.view === "map") renderMap(page, before);
  else {
    page.map = null;
    stage.replaceChildren();
    if (state.view === "matrix") matrixView(stage, page.scene, state.query, page.on);
    else tableView(stage, page.scene, state, page.on);
  }
  renderStatuses(page);
  renderChips(page);
  renderPanel(page);
  writeAddress(page);
}

function renderMap(page, before) {
  const { scene: shown, state, stage } = page;
  if (!page.map) {
    stage.replaceChildren();
    page.map = mapView(stage, page.on);
    const metric = choice("metric", "Line width", [["connections", "by connections"], ["bytes", "by bytes"]], state.metric, (value) => {
      state.metric = value;
      render(page, firstPlace(page));
    });
    stage.append(...mapOverlay(page.map, metric));
    wireHover(page);
  }
  stage.querySelector(".empty")?.remove();
  if (!shown.leaves.length) stage.append(el("p", { class: "empty" }, "No traffic passes these filters."));
  dress(shown.root, widest(shown.leaves.length));
  const links = shown.bundles.map((bundle) => ({ ...bundle, weight: 1 + Math.log10(bundle.edges.reduce((sum, edge) => sum + edge.connections, 1)) }));
  const labels = shown.bundles.length <= LABELS_MOST;
  const window_ = stage.getBoundingClientRect();
  page.laid = layoutScene(shown.root, links, { gap: labels ? 104 : SPACE.gap, width: window_.width * 1.3, aspect: window_.width / window_.height });
  page.places = placesOf(shown.root);
  const active = new Set(shown.bundles.filter((bundle) => bundle.tally).flatMap((bundle) => [bundle.source, bundle.target]));
  for (const leaf of shown.leaves) leaf.quiet = !active.has(leaf);
  const drawing = drawScene(page.laid, shown, { metric: state.metric, labels, shares: incomingShares(shown) });
  const after = before && page.places.get(before.id);
  page.map.show(drawing, { width: page.laid.width, height: page.laid.height }, after && page.places.size > 1 ? { before, after } : null);
  relight(page);
}

function placesOf(root) {
  const out = new Map();
  const walk = (node) => {
    out.set(node.id, { id: node.id, x: node.x, y: node.y, width: node.width, height: node.height });
    node.children.forEach(walk);
  };
  walk(root);
  return out;
}

function incomingShares(shown) {
  const out = new Map();
  for (const bundle of shown.bundles.filter((each) => each.tally)) {
    const shares = out.get(bundle.target.id) ?? new Map();
    for (const [status, strand] of bundle.tally.strands) shares.set(status, (shares.get(status) ?? 0) + strand.connections);
    out.set(bundle.target.id, shares);
  }
  return out;
}

/** What a person can do, from any view. */
function actions(page) {
  const { model, state } = page;
  return {
    pick(id, kind) {
      state.picked = { id, kind };
      renderPanel(page);
      relight(page);
      writeAddress(page);
      document.body.classList.add("panel-open");
    },
    clear() {
      state.picked = null;
      renderPanel(page);
      relight(page);
      writeAddress(page);
      document.body.classList.remove("panel-open");
    },
    toggle(id) {
      const box = model.boxes.get(id);
      if (!box || !isContainer(box)) return;
      if (!state.open.delete(id)) state.open.add(id);
      render(page, id);
      if (page.map && page.places.has(id)) page.map.reveal(page.places.get(id));
      page.map?.frame.querySelector(`[data-box="${CSS.escape(id)}"]`)?.focus({ preventScroll: true });
    },
    focus(id) {
      state.focus = id ? model.boxes.get(id) : null;
      render(page);
    },
    service(name) {
      state.service = name;
      document.getElementById("service").value = name;
      render(page);
    },
    sort(at) {
      state.sort = { at, down: state.sort.at === at ? !state.sort.down : false };
      render(page);
    },
  };
}

/** The edges and ends behind what is picked; null when it is not there any more. */
function pickedEdges(page) {
  const { picked } = page.state;
  if (picked?.kind === "edge") {
    const edge = page.model.edges[Number(picked.id)];
    return edge && { edges: [edge], ends: [edge.from, edge.to].map((group) => ({ name: shortName(group), where: placeWords(group) })) };
  }
  const bundle = picked?.kind === "bundle" && page.bundles.get(picked.id);
  if (bundle && bundle.edges.length === 1) return pickedEdges({ ...page, state: { picked: { kind: "edge", id: String(bundle.edges[0].index) } } });
  return bundle ? { edges: bundle.edges, ends: [bundle.source.box, bundle.target.box].map((box) => ({ name: printable(box.title), where: parentPath(box) })) } : null;
}

const parentPath = (box) => (box.parent && box.parent.id !== "root" ? printable(box.parent.path) : "");

function renderPanel(page) {
  const { model, state, panel, scene: shown, on } = page;
  const edges = pickedEdges(page);
  const box = state.picked?.kind === "box" ? model.boxes.get(state.picked.id) : null;
  const close = edges || box ? el("button", { type: "button", class: "close", "aria-label": "Close details", title: "Close (Esc)", onclick: on.clear }, "✕") : null;
  const content = edges ? edgePanel(edges.edges, edges.ends, state, on) : box ? boxPanel(box, shown, { filter: state, isOpen: state.open.has(box.id) }, on) : overviewPanel(model, shown, state, on);
  panel.replaceChildren(...[close, ...content].filter(Boolean));
  panel.scrollTop = 0;
}

// Hover and search light up what belongs together.

function neighbourhood(page, ids) {
  const boxes = new Set(ids);
  const bundles = new Set();
  for (const bundle of page.scene.bundles.filter((each) => each.tally)) {
    const ends = [bundle.source.id, bundle.target.id];
    if (!ends.some((id) => ids.has(id))) continue;
    bundles.add(bundle.id);
    ends.forEach((id) => boxes.add(id));
  }
  return { boxes, bundles };
}

/** A box and the visible boxes in it. */
function insideOf(page, id) {
  const ids = new Set([id]);
  for (const leaf of page.scene.leaves) {
    for (let box = leaf.box; box; box = box.parent) if (box.id === id) ids.add(leaf.id);
  }
  return ids;
}

function relight(page) {
  const { state, map } = page;
  if (!map) return;
  map.mark(state.picked?.id ?? null);
  if (state.query) {
    const found = matches(page);
    map.light(found.boxes, found.bundles);
  } else if (state.picked?.kind === "box") {
    const { boxes, bundles } = neighbourhood(page, insideOf(page, state.picked.id));
    map.light(boxes, bundles);
  } else if (pickedEdges(page)) {
    const wanted = new Set(pickedEdges(page).edges);
    const bundles = page.scene.bundles.filter((bundle) => bundle.edges.some((edge) => wanted.has(edge)));
    map.light(new Set(bundles.flatMap((bundle) => [bundle.source.id, bundle.target.id])), new Set(bundles.map((bundle) => bundle.id)));
  } else map.light(new Set(), new Set());
}

function matches(page) {
  const query = page.state.query.toLowerCase();
  const boxes = new Set(page.scene.leaves.filter((leaf) => leaf.box.search.includes(query)).map((leaf) => leaf.id));
  const bundles = new Set();
  for (const bundle of page.scene.bundles.filter((each) => each.tally)) {
    if (!bundle.edges.some((edge) => edge.text.includes(query))) continue;
    bundles.add(bundle.id);
    boxes.add(bundle.source.id);
    boxes.add(bundle.target.id);
  }
  if (!boxes.size) boxes.add("nothing found");
  return { boxes, bundles };
}

function wireHover(page) {
  const { map, tip } = page;
  map.frame.addEventListener("pointerover", (event) => {
    const line = event.target.closest("[data-bundle]") ?? event.target.closest("[data-label]");
    const box = event.target.closest("[data-box]");
    const bundle = line && page.bundles.get(line.dataset.bundle ?? line.dataset.label);
    if (bundle) {
      map.light(new Set([bundle.source.id, bundle.target.id]), new Set([bundle.id]));
      tip.replaceChildren(...tipOf(bundle));
      tip.hidden = false;
    } else {
      tip.hidden = true;
      if (box) {
        const { boxes, bundles } = neighbourhood(page, insideOf(page, box.dataset.box));
        if (box.classList.contains("node")) map.light(boxes, bundles);
      } else relight(page);
    }
  });
  map.frame.addEventListener("pointermove", (event) => {
    const right = event.clientX > window.innerWidth - 320;
    tip.style.left = right ? "" : `${event.clientX + 14}px`;
    tip.style.right = right ? `${window.innerWidth - event.clientX + 14}px` : "";
    tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - 110)}px`;
  });
  map.frame.addEventListener("pointerleave", () => {
    tip.hidden = true;
    relight(page);
  });
}

function tipOf(bundle) {
  const sums = bundle.tally;
  return [
    el("strong", {}, `${printable(bundle.source.box.title)} → ${printable(bundle.target.box.title)}`),
    el("span", {}, serviceWords(sums.edges, 4)),
    el("span", {}, `${plural(sums.connections, "connection")}, ${size(sums.bytes)}`),
    el("span", {}, ATTENTION.filter((status) => sums.strands.has(status)).map((status) => el("b", { class: `ink-${status}` }, `${STATUS.get(status).mark} ${STATUS.get(status).word} `))),
  ];
}

// Header and filters.

function buildHeader(page) {
  const { doc } = page.model;
  document.getElementById("range").textContent = doc.first
    ? `${moment(doc.first)} to ${moment(doc.last)} UTC · ${plural(doc.summary.groups, "group")} by ${doc.by.map(printable).join(", ")}${doc.judged ? "" : " · not judged"}`
    : "No traffic";
  for (const tab of document.querySelectorAll("[data-view]")) {
    tab.addEventListener("click", () => { page.state.view = tab.dataset.view; render(page); });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const next = VIEWS[(VIEWS.indexOf(tab.dataset.view) + step + VIEWS.length) % VIEWS.length];
      page.state.view = next;
      render(page);
      document.getElementById(`tab-${next}`).focus();
    });
  }
  const search = document.getElementById("search");
  search.addEventListener("input", () => setQuery(page, search.value.trim()));
  search.addEventListener("keydown", (event) => { if (event.key === "Enter") goToMatch(page); });
  document.getElementById("print").addEventListener("click", () => window.print());
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = getComputedStyle(root).colorScheme === "dark" || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.theme = isDark ? "light" : "dark";
  });
}

/** The map lights up what a search finds; matrix and table show nothing else. */
function setQuery(page, query) {
  page.state.query = query;
  if (page.state.view === "map") relight(page);
  else render(page);
}

/** Enter in the search box opens the way to the first match and shows it. */
function goToMatch(page) {
  const query = page.state.query.toLowerCase();
  if (!query) return;
  const found = [...page.model.boxes.values()].find((box) => box.group && box.search.includes(query))
    ?? page.model.edges.find((edge) => edge.text.includes(query))?.sourceBox;
  if (!found) return;
  for (let box = found.parent; box; box = box.parent) if (box.id !== "root") page.state.open.add(box.id);
  page.state.view = "map";
  render(page);
  const place = page.places.get(found.id);
  if (place) page.map.center(place);
}

function renderStatuses(page) {
  const { state, model } = page;
  const summary = model.doc.summary.statuses;
  const buttons = ATTENTION.map((status) => {
    const { word, mark, help } = STATUS.get(status);
    const isOn = state.statuses.has(status);
    const { edges, connections } = summary[status];
    return el("button", { type: "button", class: `status back-${status} ${edges ? "" : "none"}`, "aria-pressed": String(isOn), title: `${help} ${count(connections)} connections.`, onclick: () => toggleStatus(page, status), ondblclick: () => onlyStatus(page, status) },
      el("b", { "aria-hidden": "true" }, mark), el("span", {}, word), el("strong", {}, count(edges)), edges ? el("small", {}, `${brief(connections)} conn.`) : null);
  });
  document.getElementById("statuses").replaceChildren(...buttons);
}

function toggleStatus(page, status) {
  if (!page.state.statuses.delete(status)) page.state.statuses.add(status);
  const at = ATTENTION.indexOf(status);
  render(page, firstPlace(page));
  document.getElementById("statuses").children[at].focus();
}

function onlyStatus(page, status) {
  page.state.statuses = new Set([status]);
  render(page, firstPlace(page));
}

/** Any box will do to hold the drawing still when only lines come and go. */
const firstPlace = (page) => page.scene.leaves[0]?.id ?? null;

function buildFilters(page) {
  const { model, state } = page;
  const services = [...new Set(model.edges.flatMap((edge) => edge.services.map((use) => use.service)))].sort();
  const filters = document.getElementById("filters");
  filters.append(choice("service", "Service", [["", "All services"], ...services.map((name) => [name, printable(name)])], state.service, (value) => {
    state.service = value;
    render(page, firstPlace(page));
  }));
  for (const key of model.doc.by.slice(0, Math.max(1, model.doc.by.length - 1))) {
    const values = [...new Set(model.groups.filter((group) => group.kind === "workloads").map((group) => group.labels[key] ?? "–"))].sort();
    if (values.length < 2) continue;
    filters.append(choice(`where-${key}`, printable(key), [["", `All ${printable(key)}`], ...values.map((value) => [value, printable(value)])], state.where.get(key) ?? "", (value) => {
      if (value) state.where.set(key, value);
      else state.where.delete(key);
      render(page);
    }));
  }
  filters.append(el("span", { id: "levels", class: "levels", role: "group", "aria-label": "Detail" }), el("span", { id: "chips", class: "chips" }));
}

function choice(id, label, options, value, onchange) {
  const select = el("select", { id, "aria-label": label, onchange: () => onchange(select.value) }, options.map(([key, text]) => el("option", { value: key }, text)));
  select.value = value;
  return select;
}

function renderChips(page) {
  const { state, model } = page;
  const levels = [...model.boxes.values()].filter((box) => isContainer(box) && box.id !== "root");
  const set = (boxes) => () => { state.open = new Set(boxes.map((box) => box.id)); render(page); };
  document.getElementById("levels").replaceChildren(...(levels.length && state.view !== "table" ? [
    el("button", { type: "button", onclick: set([]) }, "Close all"), el("button", { type: "button", onclick: set(levels) }, "Open all"),
  ] : []));
  const chip = (text, onclick) => el("button", { type: "button", class: "chip", onclick }, text, el("b", { "aria-hidden": "true" }, "✕"), el("span", { class: "hidden" }, "remove"));
  document.getElementById("chips").replaceChildren(...(state.focus ? [chip(`Only ${printable(state.focus.title)}`, () => page.on.focus(null))] : []));
}

// Keys, print, and the address bar.

function wireKeys(page) {
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, textarea");
    if (event.key === "/" && !isTyping) {
      document.getElementById("search").focus();
      event.preventDefault();
    } else if (event.key === "Escape") {
      if (isTyping && page.state.query) {
        document.getElementById("search").value = "";
        setQuery(page, "");
      } else page.on.clear();
    } else if (event.key >= "1" && event.key <= "3" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      page.state.view = VIEWS[Number(event.key) - 1];
      render(page);
    }
  });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (width !== window.innerWidth) page.map?.fit();
    width = window.innerWidth;
  });
}

function wirePrint(page) {
  window.addEventListener("beforeprint", () => page.map?.forPrint(true));
  window.addEventListener("afterprint", () => page.map?.forPrint(false));
}

/** The address holds the view, so that a link shows what its sender saw. */
function writeAddress({ state, model }) {
  const parts = new URLSearchParams();
  if (state.view !== "map") parts.set("view", state.view);
  if (state.statuses.size < STATUSES.length) parts.set("show", [...state.statuses].join(","));
  if (state.service) parts.set("service", state.service);
  for (const [key, value] of state.where) parts.append("where", `${key}=${value}`);
  if (state.focus) parts.set("focus", state.focus.id);
  const opened = [...state.open].sort().join("\n");
  if (opened !== [...model.firstOpen].sort().join("\n")) parts.set("open", opened);
  if (state.picked) parts.set("pick", `${state.picked.kind}:${state.picked.id}`);
  const text = parts.toString();
  if (text !== location.hash.slice(1)) history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

function readAddress({ state, model }) {
  const parts = new URLSearchParams(location.hash.slice(1));
  if (VIEWS.includes(parts.get("view"))) state.view = parts.get("view");
  if (parts.has("show")) state.statuses = new Set(parts.get("show").split(",").filter((status) => STATUS.has(status)));
  state.service = parts.get("service") ?? "";
  for (const pair of parts.getAll("where")) {
    const [key, ...value] = pair.split("=");
    if (model.doc.by.includes(key)) state.where.set(key, value.join("="));
  }
  state.focus = model.boxes.get(parts.get("focus")) ?? null;
  if (parts.has("open")) state.open = new Set(parts.get("open").split("\n").filter((id) => model.boxes.has(id)));
  const [kind, ...id] = (parts.get("pick") ?? "").split(":");
  if (["box", "bundle", "edge"].includes(kind)) state.picked = { kind, id: id.join(":") };
}

start();
