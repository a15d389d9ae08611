// The map as SVG: boxes and lines from a laid-out scene. It draws; it does not decide what is shown or listen to anyone.

const TEXT = { title: 13, small: 11, context: 10.5, label: 10.5 };
const NODE = { least: 132, height: 50, icon: 40, right: 30 };
const HEAD = 8;

/** How wide a node may be: the fewer there are, the more of a long name is shown. */
const widest = (leaves) => (leaves <= 24 ? 330 : leaves <= 60 ? 260 : 200);

/** Sizes of a scene's leaves and least widths of its containers, from their words. */
function dress(node, most) {
  if (node.children.length) {
    node.least = 70 + containerTitle(node.box).reduce((sum, part) => sum + textWidth(part.value, 600, 12.5) + 22, 0);
    node.children.forEach((child) => dress(child, most));
    return;
  }
  if (node.box.id === "root") return;
  const context = contextOf(node.box);
  const wanted = Math.max(
    textWidth(printable(node.box.name), 600, TEXT.title), textWidth(subtitle(node.box), 400, TEXT.small),
    context ? textWidth(context, 500, TEXT.context) : 0,
  );
  node.width = Math.min(most, Math.max(NODE.least, Math.ceil(wanted) + NODE.icon + NODE.right));
  node.height = NODE.height + (context ? 13 : 0);
}

const containerTitle = (box) => box.parts.map((part) => ({ key: part.key, value: printable(part.value) }));

/** The names of the containers a group stands for alone. */
function contextOf(box) {
  return printable(box.parts.slice(0, -1).map((part) => part.value).join(" / "));
}

function subtitle(box) {
  if (isContainer(box)) return box.side ? plural(box.groups.length, "subnet") : `${plural(box.groups.length, "group")} · ${plural(census(box).workloads, "workload")}`;
  if (box.group.kind === "workloads") return plural(box.group.workloads, "workload");
  return box.group.kind === "private" ? `unlabelled · ${plural(box.group.addresses, "address").replace("addresss", "addresses")}` : box.parts[0].key;
}

/** How strictly a box is held: one word for the shield, one sentence for the reader. */
function holdOf(box) {
  const all = census(box);
  if (!all.controlled) return { level: "none", text: "Not controlled: no enforcement point" };
  const modes = [...all.modes].map(([mode, n]) => `${count(n)} ${mode}`).join(", ");
  const partly = all.controlled < all.workloads ? `, ${count(all.workloads - all.controlled)} not controlled` : "";
  const strict = (mode) => [...all.modes.keys()].every((each) => each === mode);
  const level = partly ? "some" : strict("enforce") ? "full" : strict("observe") ? "watch" : "some";
  return { level, text: `${modes}${partly}` };
}

/** The drawing: returns the SVG world and what is needed to find things in it again. */
function drawScene(laid, scene_, look) {
  const world = svg("g", { class: "world" });
  const layers = ["frames", "lines", "boxes", "labels"].map((name) => svg("g", { class: name }));
  world.append(...layers);
  const [frames, lines, boxes, labels] = layers;
  const walk = (node) => {
    if (node.box.id !== "root") (node.children.length ? frames : boxes).append(node.children.length ? drawFrame(node) : drawNode(node, look));
    node.children.forEach(walk);
  };
  walk(scene_.root);
  const drawn = scene_.bundles.filter((bundle) => bundle.tally).sort((a, b) => byAttention(b.tally, a.tally));
  const scale = thickness(drawn, look.metric);
  for (const bundle of drawn) {
    if (bundle.source === bundle.target) boxes.append(drawLoop(bundle));
    else lines.append(drawLine(bundle, laid.routes.get(bundle.id), scale));
  }
  if (look.labels) drawLabels(labels, drawn, laid.routes, scene_.leaves);
  return world;
}

function drawFrame(node) {
  const { box } = node;
  const g = svg("g", {
    class: "frame", "data-box": box.id, tabindex: "0", role: "button", "aria-expanded": "true",
    "aria-label": `${printable(box.path)}, ${subtitle(box)}. Enter for details, space to close.`,
  });
  g.append(svg("rect", { x: node.x, y: node.y, width: node.width, height: node.height, rx: 14 }));
  let x = node.x + 40;
  const y = node.y + 24;
  for (const [index, part] of containerTitle(box).entries()) {
    if (index) g.append(svg("text", { x: x - 14, y, class: "slash" }, "›"));
    g.append(svg("text", { x, y, class: "frame-name" }, part.value));
    x += textWidth(part.value, 600, 12.5) + 22;
  }
  g.append(toggle(box, node.x + 15, node.y + 11, "M3 6.5 8 11.5 13 6.5"), svg("title", {}, `${printable(box.path)}: ${subtitle(box)}`));
  return g;
}

/** The chevron that opens and closes a container. */
function toggle(box, x, y, shape) {
  return svg(
    "g", { class: "toggle", "data-toggle": box.id, transform: `translate(${x} ${y})` },
    svg("rect", { width: 18, height: 18, rx: 5 }), svg("path", { d: shape, transform: "translate(1 1)" }),
  );
}

function drawNode(node, look) {
  const { box, x, y, width, height } = node;
  const hold = holdOf(box);
  const g = svg("g", {
    class: `node ${isContainer(box) ? "closed" : ""} ${box.side ? "place" : ""} ${node.quiet ? "quiet" : ""}`, "data-box": box.id,
    transform: `translate(${x} ${y})`, tabindex: "0", role: "button",
    "aria-label": `${printable(box.path)}, ${subtitle(box)}, ${hold.text}.${isContainer(box) ? " Space to open." : ""}`,
  });
  if (isContainer(box)) {
    g.append(svg("rect", { class: "sheet", x: 6, y: -6, width: width - 12, height, rx: 9 }));
    g.append(svg("rect", { class: "sheet", x: 3, y: -3, width: width - 6, height, rx: 10 }));
  }
  g.append(svg("rect", { class: "card", width, height, rx: 10 }), drawIcon(box, height));
  const room = width - NODE.icon - NODE.right + 6;
  const fit = (text, weight, sizePx) => shorten(text, room, (each) => textWidth(each, weight, sizePx));
  const context = contextOf(box);
  const base = context ? 33 : 21;
  if (context) g.append(svg("text", { class: "context", x: NODE.icon, y: 17 }, fit(context, 500, TEXT.context)));
  g.append(svg("text", { class: "name", x: NODE.icon, y: base }, fit(printable(box.name), 600, TEXT.title)));
  g.append(svg("text", { class: "sub", x: NODE.icon, y: base + 15 }, fit(subtitle(box), 400, TEXT.small)));
  if (isContainer(box)) g.append(toggle(box, width - 25, height / 2 - 9, "M6 3.5 11 8.5 6 13.5"));
  else if (box.group.kind === "workloads") g.append(drawShield(hold, width - 23, height / 2 - 8));
  g.append(drawShares(node, look), svg("title", {}, `${printable(box.path)}\n${subtitle(box)}\n${hold.text}`));
  return g;
}

const ICONS = new Map([
  ["globe", "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M1.5 8h13M8 1.5c-4.6 4.2-4.6 8.8 0 13M8 1.5c4.6 4.2 4.6 8.8 0 13"],
  ["network", "M6 1.8h4v3.4H6zM1.5 10.8h4v3.4h-4zM10.5 10.8h4v3.4h-4zM8 5.2V8M3.5 10.8V8h9v2.8"],
  ["stack", "M2 5 8 2l6 3-6 3zM2 8l6 3 6-3M2 11l6 3 6-3"],
  ["server", "M2.5 2.5h11v4.5h-11zM2.5 9h11v4.5h-11zM5 4.75h.01M5 11.25h.01"],
  ["database", "M2.5 4c0-1.2 2.4-2 5.5-2s5.5.8 5.5 2-2.4 2-5.5 2-5.5-.8-5.5-2M2.5 4v8c0 1.2 2.4 2 5.5 2s5.5-.8 5.5-2V4M2.5 8c0 1.2 2.4 2 5.5 2s5.5-.8 5.5-2"],
  ["window", "M1.5 3h13v10h-13zM1.5 6h13M3.5 4.5h.01M5.2 4.5h.01"],
  ["branch", "M8 2v4M8 6 3.5 10v3.5M8 6l4.5 4v3.5M8 6v7.5"],
  ["bolt", "M9 1.5 3.5 9H8l-1 5.5L12.5 7H8z"],
  ["queue", "M1.5 5h3v6h-3zM6.5 5h3v6h-3zM11.5 5h3v6h-3z"],
  ["pulse", "M1.5 8.5h3l2-5 3 9 2-4h3"],
  ["box", "M2 4.5 8 1.8l6 2.7v7L8 14.2l-6-2.7zM2 4.5l6 2.7 6-2.7M8 7.2v7"],
  ["signpost", "M8 1.5v13M3 3h8.5l2 2-2 2H3zM13 9H5L3.5 10.5 5 12h8z"],
  ["code", "M5.5 4 1.5 8l4 4M10.5 4l4 4-4 4"],
]);

/** Words in a group's name that tell what it is; only a hint for the eye. */
const HINTS = [
  [/\b(db|database|postgres\w*|mysql|mongo\w*|oracle|sql|ledger|store)\b/, "database"], [/\b(cache|redis|memcached?)\b/, "bolt"],
  [/\b(queue|kafka|rabbit\w*|mq|broker|stream)\b/, "queue"], [/\b(lb|proxy|gateway|ingress|balancer|haproxy|envoy)\b/, "branch"],
  [/\b(web|frontend|ui|www|portal)\b/, "window"], [/\b(api|backend|service|app)\b/, "code"],
  [/\b(mon\w*|prometheus|grafana|metrics|log\w*|trac\w+)\b/, "pulse"], [/\b(backup|vault|archive|batch)\b/, "box"], [/\b(dns|resolver|ntp)\b/, "signpost"],
];

function iconOf(box) {
  if (isContainer(box)) return box.side ? "network" : "stack";
  if (box.group.kind === "internet" || box.group.kind === "name") return "globe";
  if (box.group.kind !== "workloads") return "network";
  const words = box.name.toLowerCase().replace(/[^a-z]+/g, " ");
  return HINTS.find(([pattern]) => pattern.test(words))?.[1] ?? "server";
}

function drawIcon(box, height) {
  return svg(
    "g", { class: "icon", transform: `translate(10 ${height / 2 - 11})` },
    svg("rect", { width: 22, height: 22, rx: 6 }), svg("path", { d: ICONS.get(iconOf(box)), transform: "translate(3 3)" }),
  );
}

/** Full: all enforce. Half: some do. Outline: watched only. Struck out: nothing of ours is there. */
function drawShield(hold, x, y) {
  const outline = "M7 .8 13 3v4.6c0 3.8-2.5 6.4-6 7.7-3.5-1.3-6-3.9-6-7.7V3z";
  const g = svg("g", { class: `shield ${hold.level}`, transform: `translate(${x} ${y})` }, svg("path", { d: outline }));
  if (hold.level === "full") g.append(svg("path", { class: "tick", d: "M4.2 7.8 6.3 10 10 5.8" }));
  if (hold.level === "some") g.append(svg("path", { class: "half", d: "M7 .8v14.5c-3.5-1.3-6-3.9-6-7.7V3z" }));
  if (hold.level === "none") g.append(svg("path", { class: "strike", d: "M1 14.5 13 1.5" }));
  return g;
}

/** A bar under a node: how its incoming connections are judged. */
function drawShares(node, look) {
  const g = svg("g", { class: "shares" });
  const shares = look.shares.get(node.id);
  if (!shares) return g;
  const width = node.width - 20;
  const total = [...shares.values()].reduce((sum, n) => sum + Math.log10(n + 1) + 0.3, 0);
  let x = 10;
  for (const status of ATTENTION.filter((each) => shares.has(each))) {
    const part = (width * (Math.log10(shares.get(status) + 1) + 0.3)) / total;
    g.append(svg("rect", { class: `fill-${status}`, x, y: node.height - 5, width: Math.max(1, part - 1.5), height: 2.5, rx: 1.2 }));
    x += part;
  }
  return g;
}

/** Line width of a volume, on a logarithmic scale over what is shown. */
function thickness(bundles, metric) {
  const values = bundles.flatMap((bundle) => [...bundle.tally.strands.values()].map((strand) => strand[metric]));
  const low = Math.log10(Math.min(...values, 1e15) + 1);
  const span = Math.max(1, Math.log10(Math.max(...values, 1) + 1) - low);
  return (strand) => 1.3 + (3.4 * (Math.log10(strand[metric] + 1) - low)) / span;
}

/** One bundle: a strand for each verdict in it, side by side, over a wide invisible line to point at. */
function drawLine(bundle, runs, scale) {
  const { tally: sums } = bundle;
  const strands = STATUSES.filter((status) => sums.strands.has(status)).map((status) => ({ status, width: scale(sums.strands.get(status)) }));
  const gaps = strands.length > 1 ? 2.2 : 0;
  const whole = strands.reduce((sum, strand) => sum + strand.width, 0) + gaps * (strands.length - 1);
  const g = svg("g", { class: "line", "data-bundle": bundle.id, "data-source": bundle.source.id, "data-target": bundle.target.id });
  let shift = -whole / 2;
  for (const strand of strands) {
    const d = linePath(runs, { shift: shift + strand.width / 2, ribbon: RIBBON.get(strand.status), short: HEAD });
    g.append(svg("path", { class: `strand stroke-${strand.status}`, d, "stroke-width": strand.width.toFixed(2), "marker-end": `url(#head-${strand.status})` }));
    shift += strand.width + gaps;
  }
  g.append(svg("path", { class: "hit", d: linePath(runs, { shift: 0, ribbon: RIBBON.get(strands[0].status), short: 0 }) }));
  return g;
}

/** How far each status keeps from the middle of a shared lane, so that a cable shows what is in it. */
const RIBBON = new Map([["allowed", -3], ["no-policy", 0.5], ["would-block", 4], ["blocked", 7.5]]);

/** Horizontal runs joined by curves; the last ends `short` before its end, to leave room for the head. */
function linePath(runs, { shift, ribbon, short }) {
  const last = runs.length - 1;
  const point = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  const lane = (run, index) => ({ ...run, y: run.y + (index > 0 && index < last ? ribbon : shift) });
  let d = `M${point(runs[0].from, runs[0].y + shift)}`;
  runs.map(lane).forEach((run, index, all) => {
    const end = index === last ? run.to - run.heading * short : run.to;
    const start = run.heading * (run.from - end) > 0 ? end : run.from;
    if (index) {
      const before = all[index - 1];
      const [one, other] = bend(before, start, run);
      d += `C${point(one, before.y)} ${point(other, run.y)} ${point(start, run.y)}`;
    }
    if (end !== start) d += `L${point(end, run.y)}`;
  });
  return d;
}

/** Where a curve between two runs pulls to: half way across, or out and back where the line turns round. */
function bend(before, start, run) {
  if (before.heading === run.heading) return [(before.to + start) / 2, (before.to + start) / 2];
  const outward = before.heading * (26 + Math.min(44, Math.abs(run.y - before.y) * 0.12));
  const far = before.heading > 0 ? Math.max(before.to, start) : Math.min(before.to, start);
  return [far + outward, far + outward];
}

/** Traffic within a box: a small loop on its corner. */
function drawLoop(bundle) {
  const node = bundle.source;
  return svg(
    "g", { class: "line loop", "data-bundle": bundle.id, "data-source": node.id, "data-target": node.id, transform: `translate(${node.x + node.width - 16} ${node.y - 8})` },
    svg("circle", { class: "loop-back", cx: 0, cy: 4, r: 9 }),
    svg("path", { class: `strand stroke-${bundle.tally.status}`, d: "M-3.6 7.4a5 5 0 1 1 5.2 1", "stroke-width": 1.8, "marker-end": `url(#small-${bundle.tally.status})` }),
    svg("title", {}, `Within ${printable(node.box.path)}`),
  );
}

/** Names of services on the lines, where there is room; one a hub where all its lines say the same. */
function drawLabels(layer, bundles, routes, leaves) {
  const taken = leaves.map((leaf) => ({ x: leaf.x, y: leaf.y, width: leaf.width, height: leaf.height }));
  const said = new Map();
  const words = (bundle) => serviceWords(bundle.tally.edges, 1);
  const ends = (bundle) => [`from ${bundle.source.id} ${words(bundle)}`, `to ${bundle.target.id} ${words(bundle)}`];
  const shown = [...bundles].reverse().filter((bundle) => bundle.source !== bundle.target);
  for (const bundle of shown) for (const key of ends(bundle)) said.set(key, (said.get(key) ?? 0) + 1);
  const done = new Set();
  for (const bundle of shown) {
    const common = ends(bundle).filter((key) => said.get(key) > 2);
    if (common.some((key) => done.has(key))) continue;
    const label = placeLabel(bundle, words(bundle), routes.get(bundle.id), taken);
    if (!label) continue;
    common.forEach((key) => done.add(key));
    layer.append(label);
  }
}

function placeLabel(bundle, text, runs, taken) {
  const width = textWidth(text, 500, TEXT.label) + 12;
  for (let at = runs.length - 1; at > 0; at -= 1) {
    const [a, b] = [runs[at - 1], runs[at]];
    if (a.heading === b.heading && Math.abs(b.from - a.to) < width * 0.8) continue;
    for (const t of [0.5, 0.62, 0.38, 0.74, 0.26]) {
      const [one, other] = bend(a, b.from, b);
      const x = a.to * (1 - t) ** 3 + 3 * one * t * (1 - t) ** 2 + 3 * other * t * t * (1 - t) + b.from * t ** 3;
      const y = a.y + (b.y - a.y) * (3 * t * t * (1 - t) + t ** 3);
      const spot = { x: x - width / 2, y: y - 8, width, height: 16 };
      if (taken.some((other) => overlaps(spot, other))) continue;
      taken.push(spot);
      return svg(
        "g", { class: "label", "data-label": bundle.id, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` },
        svg("rect", { x: -width / 2, y: -8, width, height: 16, rx: 8 }), svg("text", { class: `ink-${bundle.tally.status}`, y: 3.6 }, text),
      );
    }
  }
  return null;
}

const overlaps = (a, b) => a.x < b.x + b.width + 3 && b.x < a.x + a.width + 3 && a.y < b.y + b.height + 2 && b.y < a.y + a.height + 2;

/** The busiest services of some edges: `https, ssh +3`. */
function serviceWords(edges, most) {
  const sums = new Map();
  for (const use of edges.flatMap((edge) => edge.services)) sums.set(use.service, (sums.get(use.service) ?? 0) + use.connections);
  const names = [...sums].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([name]) => printable(name));
  return names.slice(0, most).join(", ") + (names.length > most ? ` +${names.length - most}` : "");
}

/** Heads: an arrow for what passes, a bar for what is stopped. */
function drawHeads() {
  const defs = svg("defs");
  for (const status of STATUSES) {
    const shape = status === "blocked" ? "M0 4h3.5V.5H6v9H3.5V6H0z" : "M0 .8 9.5 5 0 9.2z";
    for (const [name, sizePx] of [["head", 10], ["small", 6]]) {
      defs.append(svg(
        "marker", { id: `${name}-${status}`, viewBox: "0 0 10 10", refX: name === "head" ? 1.5 : 3, refY: 5, markerWidth: sizePx, markerHeight: sizePx, markerUnits: "userSpaceOnUse", orient: "auto" },
        svg("path", { class: `fill-${status}`, d: shape }),
      ));
    }
  }
  return defs;
}
