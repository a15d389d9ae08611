// The document as a tree of boxes (containers and groups) and, for what is shown now, edges lifted to visible boxes.

/** Nodes and lifted edges that a first view may have; beyond them containers start closed. */
const FIRST_NODES = 64;
const FIRST_EDGES = 150;
const SHORT = 8;
/** A container with more children than `CROWD` shows the `KEPT` busiest and gathers the rest in one box. */
const CROWD = 32;
const KEPT = 24;

const PLACE_NAMES = new Map([
  ["internet", "Internet"], ["multicast", "Multicast"], ["loopback", "Loopback"], ["reserved", "Reserved"], ["private", "Private"],
]);

/** Read the document: groups and edges by reference, and the tree of boxes. */
function readModel(doc) {
  const groups = doc.groups.map((group) => ({ ...group, boxes: {} }));
  const byId = new Map(groups.map((group) => [group.id, group]));
  const edges = doc.edges.map((edge, index) => ({
    ...edge, index, from: byId.get(edge.source), to: byId.get(edge.destination),
  }));
  const model = { doc, groups, edges, boxes: new Map(), root: null };
  model.root = buildTree(model);
  for (const edge of edges) {
    edge.sourceBox = edge.from.boxes.out;
    edge.targetBox = edge.to.boxes.in;
    edge.text = [...edge.rules, ...edge.services.map((use) => use.service)].join("\n").toLowerCase();
  }
  sumTraffic(model);
  gatherCrowds(model, model.root);
  indexTree(model, model.root, null, 0);
  return model;
}

function newBox(id, parts, extra = {}) {
  return { id, parts, name: parts.at(-1).value, children: [], group: null, side: null, traffic: 0, ...extra };
}

function buildTree(model) {
  const root = newBox("root", [{ key: "", value: "" }]);
  const containers = new Map();
  for (const group of model.groups.filter((each) => each.kind === "workloads")) {
    const values = model.doc.by.map((key) => ({ key, value: group.labels[key] ?? "–" }));
    let parent = root;
    for (let depth = 1; depth < values.length; depth += 1) {
      const id = `c:${JSON.stringify(model.doc.by.slice(0, depth).map((key) => group.labels[key]))}`;
      if (!containers.has(id)) {
        containers.set(id, newBox(id, [values[depth - 1]]));
        parent.children.push(containers.get(id));
      }
      parent = containers.get(id);
    }
    const leaf = newBox(`g:${group.id}`, [values.at(-1)], { group });
    group.boxes = { in: leaf, out: leaf };
    parent.children.push(leaf);
  }
  root.children = root.children.map(slim);
  root.children.push(...places(model, "out", "left"), ...places(model, "in", "right"));
  return root;
}

/** A container with one child is one box with a longer name: no frame round a frame. */
function slim(box) {
  box.children = box.children.map(slim);
  if (box.children.length !== 1) return box;
  const [only] = box.children;
  only.parts = [...box.parts, ...only.parts];
  return only;
}

/** What nobody holds stands twice: callers on the left, destinations on the right, so that traffic reads one way. */
function places(model, direction, side) {
  const active = new Set(model.edges.map((edge) => (direction === "out" ? edge.from : edge.to)));
  const found = model.groups.filter((group) => group.kind !== "workloads" && active.has(group));
  const leaves = found.map((group) => {
    const key = side === "left" ? "connects in" : "is reached";
    const leaf = newBox(`${side}:${group.id}`, [{ key, value: PLACE_NAMES.get(group.id) ?? group.name }], { group, side });
    group.boxes[direction] = leaf;
    return leaf;
  });
  const subnets = leaves.filter((leaf) => leaf.group.kind === "private");
  if (subnets.length < 3) return leaves;
  const parts = [{ key: "unlabelled", value: "Private networks" }];
  const container = newBox(`${side}:private`, parts, { side, children: subnets, startsClosed: true });
  return [...leaves.filter((leaf) => leaf.group.kind !== "private"), container];
}

function sumTraffic(model) {
  for (const edge of model.edges) {
    edge.sourceBox.traffic += edge.connections;
    edge.targetBox.traffic += edge.connections;
  }
  const total = (box) => {
    for (const child of box.children) box.traffic += total(child);
    return box.traffic;
  };
  total(model.root);
}

function gatherCrowds(model, box) {
  box.children.forEach((child) => gatherCrowds(model, child));
  if (box.children.length <= CROWD) return;
  const ranked = [...box.children].filter((child) => !child.side || box.side).sort((a, b) => b.traffic - a.traffic);
  const quiet = new Set(ranked.slice(KEPT));
  if (quiet.size < 2) return;
  const children = box.children.filter((child) => quiet.has(child));
  const parts = [{ key: "quieter", value: `${children.length} more` }];
  const traffic = children.reduce((sum, child) => sum + child.traffic, 0);
  const more = newBox(`${box.id}/more`, parts, { children, traffic, side: box.side, startsClosed: true });
  box.children = [...box.children.filter((child) => !quiet.has(child)), more];
}

function indexTree(model, box, parent, depth) {
  box.parent = parent;
  box.depth = depth;
  model.boxes.set(box.id, box);
  box.children.forEach((child) => indexTree(model, child, box, depth + 1));
  box.groups = box.group ? [box.group] : [...new Set(box.children.flatMap((child) => child.groups))];
  box.title = box.parts.map((part) => part.value).join(" / ");
  box.path = parent && parent.id !== "root" ? `${parent.path} / ${box.title}` : box.title;
  box.search = [box.path, ...box.groups.flatMap((group) => [group.id, ...group.members])].join("\n").toLowerCase();
}

const isContainer = (box) => box.children.length > 0;

/** Workloads, controlled ones and modes of everything in a box. */
function census(box) {
  const out = { workloads: 0, controlled: 0, addresses: 0, modes: new Map() };
  for (const group of box.groups) {
    out.workloads += group.workloads;
    out.controlled += group.controlled;
    out.addresses += group.addresses;
    for (const [mode, n] of Object.entries(group.modes)) out.modes.set(mode, (out.modes.get(mode) ?? 0) + n);
  }
  return out;
}

/** Open whole levels while the view stays readable; should not even the first fit and it is short, its busiest box. */
function firstOpen(model) {
  const open = new Set();
  const fits = (ids) => {
    const shown = scene(model, { open: ids, where: new Map(), focus: null });
    return shown.leaves.length <= FIRST_NODES && shown.bundles.length <= FIRST_EDGES;
  };
  let level = model.root.children.filter(isContainer);
  while (level.length) {
    const wanted = level.filter((box) => !box.startsClosed).sort((a, b) => b.traffic - a.traffic).map((box) => box.id);
    const isWhole = fits(new Set([...open, ...wanted]));
    if (isWhole) wanted.forEach((id) => open.add(id));
    else if (!open.size && level.length <= SHORT && fits(new Set(wanted.slice(0, 1)))) wanted.slice(0, 1).forEach((id) => open.add(id));
    if (!isWhole) break;
    level = level.flatMap((box) => box.children).filter(isContainer);
  }
  return open;
}

/** Everything shown for these open containers: the visible tree, its leaves, and edges lifted to them. */
function scene(model, { open, where, focus }) {
  const edges = model.edges.filter((edge) => isWanted(edge, where) && touches(edge, focus));
  const kept = new Set(edges.flatMap((edge) => [edge.sourceBox, edge.targetBox]));
  const shows = (box) => (box.children.length ? box.children.some(shows) : kept.has(box) || isIdleWanted(box, where, focus));
  const leaves = [];
  const prune = (box) => {
    const isOpen = box.id === "root" || open.has(box.id);
    const children = isOpen ? box.children.filter(shows).map(prune) : [];
    const node = { box, id: box.id, side: box.side, children, isOpen: isOpen && children.length > 0 };
    if (!children.length && box.id !== "root") leaves.push(node);
    return node;
  };
  const root = prune(model.root);
  return { root, leaves, edges, bundles: bundlesOf(edges, leaves) };
}

function isWanted(edge, where) {
  const holds = (group) => group.kind === "workloads" && [...where].every(([key, value]) => (group.labels[key] ?? "–") === value);
  return where.size === 0 || holds(edge.from) || holds(edge.to);
}

function isIdleWanted(box, where, focus) {
  if (focus) return box.group && focus.groups.includes(box.group);
  return [...where].every(([key, value]) => box.group?.kind === "workloads" && (box.group.labels[key] ?? "–") === value);
}

function touches(edge, focus) {
  return !focus || focus.groups.includes(edge.from) || focus.groups.includes(edge.to);
}

/** Edges between the same two visible boxes, together. */
function bundlesOf(edges, leaves) {
  const visible = new Map();
  for (const leaf of leaves) {
    const mark = (box) => {
      visible.set(box, leaf);
      box.children.forEach(mark);
    };
    mark(leaf.box);
  }
  const bundles = new Map();
  for (const edge of edges) {
    const source = visible.get(edge.sourceBox);
    const target = visible.get(edge.targetBox);
    const id = `${source.id}\n${target.id}`;
    if (!bundles.has(id)) bundles.set(id, { id, source, target, edges: [] });
    bundles.get(id).edges.push(edge);
  }
  return [...bundles.values()];
}

/** The uses of some edges that pass the verdict and service filters, summed by status; null when none does. */
function tally(edges, { statuses, service }) {
  const strands = new Map();
  const total = { connections: 0, bytes: 0, packets: 0, first: null, last: null, status: null, strands, edges: [] };
  for (const edge of edges) {
    const uses = edge.services.filter((use) => statuses.has(use.status) && (!service || use.service === service));
    const more = service ? [] : edge.more.filter((rest) => statuses.has(rest.status));
    if (!uses.length && !more.length) continue;
    total.edges.push(edge);
    for (const use of [...uses, ...more]) addUse(total, use);
  }
  if (!total.edges.length) return null;
  total.status = STATUSES.findLast((status) => strands.has(status));
  return total;
}

function addUse(total, use) {
  const strand = total.strands.get(use.status) ?? { connections: 0, bytes: 0 };
  strand.connections += use.connections;
  strand.bytes += use.bytes;
  total.strands.set(use.status, strand);
  total.connections += use.connections;
  total.bytes += use.bytes;
  total.packets += use.packets ?? 0;
  if (use.first && (!total.first || use.first < total.first)) total.first = use.first;
  if (use.last && (!total.last || use.last > total.last)) total.last = use.last;
}

/** Reading order: unprotected first, then busiest. */
function byAttention(a, b) {
  return ATTENTION.indexOf(a.status) - ATTENTION.indexOf(b.status) || b.connections - a.connections || (a.index ?? 0) - (b.index ?? 0);
}

/** Whether a search finds an edge: in its ends, their workloads, its services or its rules. */
function edgeAnswers(edge, query) {
  const wanted = query.toLowerCase();
  return !wanted || edge.text.includes(wanted) || edge.sourceBox.search.includes(wanted) || edge.targetBox.search.includes(wanted);
}

const answers = (bundle, query) => bundle.edges.some((edge) => edgeAnswers(edge, query));

/** A group by its last label alone, and the rest of its labels. */
const shortName = (group) => (group.kind === "workloads" ? printable(Object.values(group.labels).at(-1) ?? "–") : PLACE_NAMES.get(group.id) ?? printable(group.name));
const placeWords = (group) => (group.kind === "workloads" ? Object.values(group.labels).slice(0, -1).map((value) => printable(value ?? "–")).join(" / ") : "");
