// Who stands left of whom: one level of the layered layout (Sugiyama, Tagawa, Toda 1981), without coordinates.
// Deterministic: every tie is broken by the order of the document.

/** Width to height that a wrapped level aims at. */
const ASPECT = 1.7;

/**
 * A linear order in which as little weight as possible runs backwards (Eades, Lin, Smyth 1993).
 * `nodes` are { side }, `arcs` are { from, to, weight } with indexes into `nodes`. Returns each node's position.
 */
function linearOrder(nodes, arcs) {
  const out = nodes.map(() => new Map());
  const into = nodes.map(() => new Map());
  for (const { from, to, weight } of arcs) {
    out[from].set(to, (out[from].get(to) ?? 0) + weight);
    into[to].set(from, (into[to].get(from) ?? 0) + weight);
  }
  const left = new Set(nodes.keys());
  const head = [];
  const tail = [];
  const take = (node, list) => {
    list.push(node);
    left.delete(node);
    for (const next of out[node].keys()) into[next].delete(node);
    for (const previous of into[node].keys()) out[previous].delete(node);
  };
  for (const node of [...left].filter((each) => nodes[each].side === "left")) take(node, head);
  const last = [...left].filter((each) => nodes[each].side === "right");
  for (const node of last) take(node, []);
  while (left.size) {
    const sink = [...left].find((node) => out[node].size === 0 && into[node].size > 0);
    const source = [...left].find((node) => into[node].size === 0);
    if (sink !== undefined) take(sink, tail);
    else if (source !== undefined) take(source, head);
    else take(mostOutward(left, out, into), head);
  }
  const position = new Array(nodes.length);
  [...head, ...tail.reverse(), ...last].forEach((node, index) => { position[node] = index; });
  return position;
}

function mostOutward(left, out, into) {
  const sum = (map) => [...map.values()].reduce((a, b) => a + b, 0);
  let best = null;
  let bestScore = -Infinity;
  for (const node of left) {
    const score = sum(out[node]) - sum(into[node]);
    if (score > bestScore) [best, bestScore] = [node, score];
  }
  return best;
}

/**
 * Columns of nodes, left to right. `sizes` are { width, height }; `pulls` says for each node without arcs at this level
 * whether it belongs left (-1), right (1) or anywhere (0); `room` is what the level may take before it folds.
 */
function columnsOf(nodes, arcs, position, sizes, { pulls, room }) {
  const ahead = arcs.map((arc) => (position[arc.from] < position[arc.to] ? arc : { from: arc.to, to: arc.from }));
  const linked = new Set(ahead.flatMap((arc) => [arc.from, arc.to]));
  nodes.forEach((node, index) => node.side && linked.add(index));
  const layers = layersOf(nodes, ahead, position, linked);
  const limit = heightLimit(sizes);
  const columns = layers.flatMap((layer) => split(layer, sizes, limit));
  const loose = nodes.map((_, index) => index).filter((index) => !linked.has(index));
  settleLoose(columns, loose, sizes, pulls, limit, nodes);
  return fold(columns, nodes, ahead, sizes, room);
}

/**
 * A level too wide for its `room` { width, ratio, gap } stacks neighbouring columns, those with the least between them
 * first, as long as that brings it nearer to the ratio; what runs between boxes of one column turns round beside it.
 */
function fold(columns, nodes, arcs, sizes, room) {
  const height = (column) => column.reduce((sum, node) => sum + sizes[node].height + 22, 0);
  const width = (all) => all.reduce((sum, column) => sum + Math.max(...column.map((node) => sizes[node].width)) + room.gap, 0);
  const ratio = (all) => width(all) / Math.max(...all.map(height));
  const misfit = (all) => Math.abs(Math.log(ratio(all) / room.ratio));
  const isFixed = (column) => column.some((node) => nodes[node].side);
  let found = columns;
  while (width(found) > room.width && ratio(found) > room.ratio) {
    const between = (at) => arcs.filter((arc) => found[at].includes(arc.from) && found[at + 1].includes(arc.to)).length;
    const free = found.slice(0, -1).map((_, at) => at).filter((at) => !isFixed(found[at]) && !isFixed(found[at + 1]));
    if (!free.length) break;
    const both = (at) => height(found[at]) + height(found[at + 1]);
    const [at] = free.sort((a, b) => between(a) - between(b) || both(a) - both(b));
    const next = [...found.slice(0, at), [...found[at], ...found[at + 1]], ...found.slice(at + 2)];
    if (misfit(next) >= misfit(found)) break;
    found = next;
  }
  return found;
}

function layersOf(nodes, ahead, position, linked) {
  const order = [...linked].sort((a, b) => position[a] - position[b]);
  const out = nodes.map(() => []);
  const into = nodes.map(() => []);
  for (const arc of ahead) {
    out[arc.from].push(arc.to);
    into[arc.to].push(arc.from);
  }
  const hasLeft = order.some((node) => nodes[node].side === "left");
  const layer = new Map();
  for (const node of order) {
    const least = hasLeft && nodes[node].side !== "left" ? 1 : 0;
    layer.set(node, Math.max(least, ...into[node].map((each) => layer.get(each) + 1)));
  }
  const deepest = Math.max(0, ...order.filter((node) => !nodes[node].side).map((node) => layer.get(node)));
  for (const node of [...order].reverse()) {
    // A pure caller stands beside what it calls, not far left of it.
    if (!nodes[node].side && !into[node].length && out[node].length) {
      layer.set(node, Math.max(layer.get(node), Math.min(...out[node].map((each) => layer.get(each))) - 1));
    }
    if (nodes[node].side === "right") layer.set(node, Math.max(deepest + 1, hasLeft ? 2 : 1));
  }
  const layers = [];
  for (const node of order) (layers[layer.get(node)] ??= []).push(node);
  return layers.filter(Boolean);
}

/** The height a level's columns may have before they are wrapped, for about ASPECT overall. */
function heightLimit(sizes) {
  const area = sizes.reduce((sum, box) => sum + (box.width + 90) * (box.height + 22), 0);
  const tallest = Math.max(...sizes.map((box) => box.height));
  return Math.max(tallest, Math.sqrt(area / ASPECT) * 1.15);
}

function split(layer, sizes, limit) {
  const total = layer.reduce((sum, node) => sum + sizes[node].height + 22, 0);
  const parts = Math.max(1, Math.round(total / limit));
  const columns = Array.from({ length: parts }, () => []);
  let filled = 0;
  for (const node of layer) {
    columns[Math.min(parts - 1, Math.floor((filled / total) * parts))].push(node);
    filled += sizes[node].height + 22;
  }
  return columns.filter((column) => column.length);
}

/** Nodes with nothing to say at this level fill the emptiest columns, on the side of what they say elsewhere. */
function settleLoose(columns, loose, sizes, pulls, limit, nodes) {
  const isFixed = (column) => column.some((node) => nodes[node].side);
  const height = (column) => column.reduce((sum, node) => sum + sizes[node].height + 22, 0);
  for (const node of [...loose].sort((a, b) => pulls[a] - pulls[b] || a - b)) {
    const free = columns.filter((column) => !isFixed(column));
    const ranked = (pulls[node] > 0 ? free.reverse() : free).sort((a, b) => height(a) - height(b));
    if (ranked.length && height(ranked[0]) + sizes[node].height <= limit) ranked[0].push(node);
    else columns.splice(pulls[node] < 0 ? begin(columns, nodes) : end(columns, nodes), 0, [node]);
  }
}

/** Where the columns between the fixed left and the fixed right ones begin and end. */
const begin = (columns, nodes) => columns.filter((column) => nodes[column[0]].side === "left").length;
const end = (columns, nodes) => columns.length - columns.filter((column) => nodes[column[0]].side === "right").length;

/** Reorder every column to cross fewer links; `links` are pairs of items in neighbouring columns. */
function uncross(columns, links, rounds) {
  const rank = new Map();
  const number = () => columns.forEach((column) => column.forEach((item, index) => rank.set(item, index)));
  const left = neighbours(links, 1, 0);
  const right = neighbours(links, 0, 1);
  number();
  let best = columns.map((column) => [...column]);
  let fewest = crossings(columns, right, rank);
  for (let round = 0; round < rounds && fewest > 0; round += 1) {
    const forward = round % 2 === 0;
    const order = [...columns.keys()];
    for (const at of forward ? order : order.reverse()) sortColumn(columns[at], forward ? left : right, rank);
    const now = crossings(columns, right, rank);
    if (now < fewest) [best, fewest] = [columns.map((column) => [...column]), now];
  }
  columns.forEach((column, index) => column.splice(0, column.length, ...best[index]));
}

function neighbours(links, of, other) {
  const out = new Map();
  for (const link of links) {
    if (!out.has(link[of])) out.set(link[of], []);
    out.get(link[of]).push(link[other]);
  }
  return out;
}

function sortColumn(column, beside, rank) {
  const wish = new Map(column.map((item) => {
    const near = beside.get(item) ?? [];
    return [item, near.length ? near.reduce((sum, each) => sum + rank.get(each), 0) / near.length : rank.get(item)];
  }));
  column.sort((a, b) => wish.get(a) - wish.get(b) || rank.get(a) - rank.get(b));
  column.forEach((item, index) => rank.set(item, index));
}

/** How many pairs of links cross, by counting inversions with a Fenwick tree. */
function crossings(columns, right, rank) {
  let total = 0;
  for (let at = 0; at + 1 < columns.length; at += 1) {
    const tree = new Array(columns[at + 1].length + 1).fill(0);
    let seen = 0;
    for (const item of columns[at]) {
      const ends = (right.get(item) ?? []).map((each) => rank.get(each));
      for (const end of ends) {
        let below = 0;
        for (let i = end + 1; i > 0; i -= i & -i) below += tree[i];
        total += seen - below;
      }
      for (const end of ends) for (let i = end + 1; i < tree.length; i += i & -i) tree[i] += 1;
      seen += ends.length;
    }
  }
  return total;
}
