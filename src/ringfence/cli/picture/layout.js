// Where everything stands: a compound layered layout. Each container is laid out alone, inside out; links that leave it
// run through lanes to ports on its border, so a line passes between boxes, never across one.
//
// In:  a tree of { id, children, side, width, height } (sizes given for leaves) and links { id, source, target, weight }.
// Out: x, y, width, height set on every node, absolute; and for each link the horizontal runs its line is made of.

const SPACE = { node: 20, lane: 11, pad: 22, head: 40, fan: 46, gap: 70, widest: 170, reach: 76 };

function layoutScene(root, links, { gap = SPACE.gap, width = 1500, aspect = 1.4 } = {}) {
  const plans = new Map();
  prepare(root, null, 0, plans);
  const journeys = links.filter((link) => link.source !== link.target).map((link) => journey(link, plans));
  const room = { gap, width, ratio: aspect * 1.5, inner: { gap, width: 1150, ratio: 3.5 } };
  // Which side a line leaves by depends on the columns, and where columns fold depends on sizes: so once for the columns,
  // and again with them settled.
  for (const plan of plans.values()) plan.position = linearOrder(plan.node.children, [...plan.arcs.values()]);
  for (let pass = 0; pass < 2; pass += 1) {
    for (const each of journeys) book(each, plans);
    arrange(plans.get(root), plans, room);
    if (pass === 0) for (const plan of plans.values()) Object.assign(plan, { trips: [], ports: [] });
  }
  place(plans.get(root), 0, 0, plans);
  const routes = new Map(journeys.map((each) => [each.link.id, runsOf(each, plans)]));
  spreadEnds(journeys, routes);
  return { width: root.width, height: root.height, routes };
}

function prepare(node, parent, depth, plans) {
  node.parent = parent;
  node.depth = depth;
  if (depth > 0 && !node.children.length) return;
  const slot = new Map(node.children.map((child, index) => [child, index]));
  plans.set(node, { node, slot, arcs: new Map(), trips: [], ports: [], found: null });
  node.children.forEach((child) => prepare(child, node, depth + 1, plans));
}

/** The containers a link leaves, the one it crosses, and the ones it enters. */
function journey(link, plans) {
  let [source, target] = [link.source, link.target];
  const [up, down] = [[], []];
  while (source.parent !== target.parent) {
    if (source.depth >= target.depth) {
      up.push(source);
      source = source.parent;
    } else {
      down.unshift(target);
      target = target.parent;
    }
  }
  const plan = plans.get(source.parent);
  const [from, to] = [plan.slot.get(source), plan.slot.get(target)];
  const key = `${from}>${to}`;
  const arc = plan.arcs.get(key) ?? { from, to, weight: 0 };
  arc.weight += link.weight;
  plan.arcs.set(key, arc);
  return { link, up, down, source, target, plan };
}

/** Tell every container on the way which of its children needs which side, and the crossed one about the trip. */
function book(each, plans) {
  const { plan } = each;
  [each.exit, each.entry] = sidesOf(plan, plan.slot.get(each.source), plan.slot.get(each.target));
  plan.trips.push(each);
  for (const child of each.up) plans.get(child.parent).ports.push({ child, side: each.exit, port: `${each.exit}out` });
  for (const child of each.down) plans.get(child.parent).ports.push({ child, side: each.entry, port: `${each.entry}in` });
}

/** A line runs on to a later column, back to an earlier one, or turns round beside its own: down right, up left. */
function sidesOf(plan, from, to) {
  const at = (slot) => (plan.found ? plan.found.findIndex((column) => column.includes(slot)) : plan.position[slot]);
  if (at(from) !== at(to)) return at(from) < at(to) ? ["R", "L"] : ["L", "R"];
  const column = plan.found[at(from)];
  return column.indexOf(from) < column.indexOf(to) ? ["R", "R"] : ["L", "L"];
}

/** Lay out a container's children, deepest first, and so learn its size and where its ports are. */
function arrange(plan, plans, room) {
  const { node } = plan;
  for (const child of node.children) if (plans.has(child)) arrange(plans.get(child), plans, { ...room.inner, inner: room.inner });
  plan.found ??= columnsOf(node.children, [...plan.arcs.values()], plan.position, node.children, { pulls: pullsOf(plan), room });
  plan.items = new Map();
  plan.columns = [[], ...plan.found.map((column) => column.map((slot) => boxItem(plan, node.children[slot]))), []];
  plan.columns.forEach((column, at) => column.forEach((item) => { item.column = at; }));
  plan.links = new Map();
  degrees(plan);
  for (const trip of plan.trips) chain(plan, trip);
  for (const port of plan.ports) portChain(plan, port);
  const links = [...plan.links.values()];
  uncross(plan.columns, links.map((link) => [link.a, link.b]), links.length > 600 ? 8 : 24);
  stack(plan, links);
  measure(plan, links, room.gap);
}

/** Where a container's children look: to what is right of it, left of it, or nowhere. */
function pullsOf(plan) {
  const pulls = plan.node.children.map(() => 0);
  for (const { child, side } of plan.ports) pulls[plan.slot.get(child)] += side === "R" ? 1 : -1;
  return pulls.map(Math.sign);
}

function boxItem(plan, child) {
  const item = { kind: "box", child, height: child.height, width: child.width, y: 0, lead: child.leads ?? null };
  plan.items.set(child, item);
  return item;
}

/** Links that share a busy end share its lanes: a hub has one trunk, not a fan of long parallels. */
function degrees(plan) {
  plan.degree = new Map();
  const add = (key) => plan.degree.set(key, (plan.degree.get(key) ?? 0) + 1);
  for (const arc of plan.arcs.values()) {
    add(`out${arc.from}`);
    add(`in${arc.to}`);
  }
}

function hubOf(plan, trip) {
  const [from, to] = [plan.slot.get(trip.source), plan.slot.get(trip.target)];
  const isSource = plan.degree.get(`out${from}`) >= plan.degree.get(`in${to}`);
  return `${isSource ? "out" : "in"}${isSource ? from : to}${trip.exit}`;
}

/** The lanes of a trip through its own level, in the order it passes them. */
function chain(plan, trip) {
  const [a, b] = [plan.items.get(trip.source), plan.items.get(trip.target)];
  trip.lanes = [];
  if (trip.exit === trip.entry) return;
  const isForward = trip.exit === "R";
  const lanes = isForward ? thread(plan, a, b, hubOf(plan, trip), "out", "in") : thread(plan, b, a, hubOf(plan, trip), "in", "out");
  trip.lanes = isForward ? lanes : lanes.reverse();
}

/** A port of this container and its lanes to and from one child. */
function portChain(plan, { child, side, port }) {
  const id = `port${port}`;
  const last = plan.columns.length - 1;
  if (!plan.items.has(id)) {
    const item = { kind: "port", id, height: 0, width: 0, y: 0, column: side === "L" ? 0 : last };
    plan.items.set(id, item);
    plan.columns[item.column].push(item);
  }
  const [inner, outer] = [plan.items.get(child), plan.items.get(id)];
  const way = port.slice(1);
  if (side === "L") thread(plan, outer, inner, id, way, way);
  else thread(plan, inner, outer, id, way, way);
}

/** Lanes between two items, shared by all that ride with the same hub; the ways are those of a's right and b's left port. */
function thread(plan, a, b, hub, rightWay, leftWay) {
  const lanes = [];
  for (let at = a.column + 1; at < b.column; at += 1) lanes.push(laneAt(plan, hub, at));
  const path = [a, ...lanes, b];
  for (let at = 0; at + 1 < path.length; at += 1) linkItems(plan, path[at], path[at + 1], rightWay, leftWay);
  return lanes;
}

function laneAt(plan, hub, column) {
  const id = `${hub}@${column}`;
  if (!plan.items.has(id)) {
    const item = { kind: "lane", id, height: 6, width: 0, y: 0, column };
    plan.items.set(id, item);
    plan.columns[column].push(item);
  }
  return plan.items.get(id);
}

function linkItems(plan, a, b, rightWay, leftWay) {
  const key = `${itemId(a)}|${itemId(b)}|${rightWay}`;
  if (!plan.links.has(key)) plan.links.set(key, { a, b, shift: lead(a, `R${rightWay}`) - lead(b, `L${leftWay}`) });
}

const itemId = (item) => (item.kind === "box" ? item.child.id : item.id);

/** How far from a child's middle its port is; a group is reached in its middle. */
const lead = (item, port) => item.lead?.get(`port${port}`) ?? 0;

/** Heights: from a plain stack, every column in turn is moved as close as it gets to what it is linked to. */
function stack(plan, links) {
  for (const column of plan.columns) settle(column, column.map((_, index) => index * 70 - column.length * 35));
  const left = new Map();
  const right = new Map();
  const note = (map, item, other, shift) => {
    if (!map.has(item)) map.set(item, []);
    map.get(item).push([other, shift]);
  };
  for (const { a, b, shift } of links) {
    note(right, a, b, -shift);
    note(left, b, a, shift);
  }
  const rounds = links.length > 600 ? 8 : 16;
  for (let round = 0; round < rounds; round += 1) {
    const order = [...plan.columns.keys()];
    for (const at of round % 2 ? order.reverse() : order) {
      const beside = round < rounds - 4 ? [round % 2 ? right : left] : [left, right];
      settle(plan.columns[at], plan.columns[at].map((item) => wish(item, beside)));
    }
  }
}

/** Where an item would stand best; one that is linked to nothing only wants to be near its column. */
function wish(item, beside) {
  const near = beside.flatMap((map) => map.get(item) ?? []);
  if (!near.length) return null;
  return near.reduce((sum, [other, shift]) => sum + other.y + shift, 0) / near.length;
}

/** The nearest heights to those wished for that keep order and distance: isotonic regression by pooling. */
function settle(column, wishes) {
  const linked = wishes.filter((each) => each !== null);
  if (!linked.length) return;
  const center = linked.reduce((sum, each) => sum + each, 0) / linked.length;
  const offsets = [];
  column.forEach((item, index) => {
    const previous = column[index - 1];
    offsets.push(index === 0 ? 0 : offsets[index - 1] + (previous.height + item.height) / 2 + between(previous, item));
  });
  const pools = [];
  wishes.forEach((wished, index) => {
    const weight = wished === null ? 0.02 : 1;
    let pool = { sum: ((wished ?? center) - offsets[index]) * weight, weight, size: 1 };
    while (pools.length && pools.at(-1).sum / pools.at(-1).weight > pool.sum / pool.weight) {
      const previous = pools.pop();
      pool = { sum: previous.sum + pool.sum, weight: previous.weight + pool.weight, size: previous.size + pool.size };
    }
    pools.push(pool);
  });
  let index = 0;
  for (const pool of pools) {
    for (let i = 0; i < pool.size; i += 1, index += 1) column[index].y = pool.sum / pool.weight + offsets[index];
  }
}

const between = (a, b) => (a.kind === "box" && b.kind === "box" ? SPACE.node : SPACE.lane);

/** Columns become widths, the container gets its size, and its ports their places relative to its middle. */
function measure(plan, links, gap) {
  const { node } = plan;
  const isRoot = node.parent === null;
  const boxes = plan.columns.flat().filter((item) => item.kind !== "port");
  const top = Math.min(...boxes.map((item) => item.y - item.height / 2));
  const head = isRoot ? 0 : SPACE.head;
  const pad = isRoot ? 0 : SPACE.pad;
  for (const item of plan.columns.flat()) item.y += head - top;
  node.height = Math.max(...boxes.map((item) => item.y + item.height / 2)) + pad;
  const used = new Array(plan.columns.length).fill(0);
  for (const link of links) used[link.a.column] += 1;
  plan.x = [];
  let x = plan.columns[0].length ? SPACE.fan : pad;
  plan.columns.forEach((column, at) => {
    const isEdge = at === 0 || at === plan.columns.length - 1;
    const width = isEdge ? 0 : Math.max(...column.map((item) => item.width));
    plan.x.push({ left: isEdge && at === 0 ? 0 : x, right: isEdge && at === 0 ? 0 : x + width });
    if (isEdge) return;
    const isLast = at === plan.columns.length - 2;
    x += width + (isLast ? 0 : Math.min(SPACE.widest, gap + 2.2 * used[at]));
  });
  node.width = Math.max(x + (plan.columns.at(-1).length ? SPACE.fan : pad), node.least ?? 0);
  plan.x[plan.x.length - 1] = { left: node.width, right: node.width };
  ports(plan, head);
}

function ports(plan, head) {
  const { node } = plan;
  node.leads = new Map();
  for (const column of [plan.columns[0], plan.columns.at(-1)]) {
    column.forEach((item, index) => {
      const room = (column.length - 1 - index) * SPACE.lane;
      item.y = Math.min(Math.max(item.y, head + 4 + index * SPACE.lane), node.height - 10 - room);
      node.leads.set(item.id, item.y - node.height / 2);
    });
  }
}

/** Absolute places, outside in. */
function place(plan, x, y, plans) {
  Object.assign(plan.node, { x, y });
  for (const item of plan.columns.flat().filter((each) => each.kind === "box")) {
    const column = plan.x[item.column];
    const child = item.child;
    const at = x + column.left + (column.right - column.left - child.width) / 2;
    const top = y + item.y - child.height / 2;
    if (plans.has(child)) place(plans.get(child), at, top, plans);
    else Object.assign(child, { x: at, y: top });
  }
}

/** The horizontal runs { from, to, y, heading } of a line; between runs it swings over in an S, or turns round in a C. */
function runsOf(each, plans) {
  const { exit, entry } = each;
  const runs = [];
  for (const child of each.up) {
    const plan = plans.get(child.parent);
    runs.push(endRun(plan, child, `${exit}out`));
    const lanes = lanesTo(plan, plan.items.get(child), `port${exit}out`, exit);
    runs.push(...lanes.map((lane) => laneRun(plan, lane, exit === "R")));
  }
  runs.push(endRun(each.plan, each.source, `${exit}out`));
  runs.push(...each.lanes.map((lane) => laneRun(each.plan, lane, exit === "R")));
  runs.push(flip(endRun(each.plan, each.target, `${entry}in`)));
  for (const child of each.down) {
    const plan = plans.get(child.parent);
    const lanes = lanesTo(plan, plan.items.get(child), `port${entry}in`, entry).reverse();
    runs.push(...lanes.map((lane) => laneRun(plan, lane, entry === "L")));
    runs.push(flip(endRun(plan, child, `${entry}in`)));
  }
  return runs;
}

/** From a box's side (its port, if it is a container) to the edge of its column. */
function endRun(plan, child, port) {
  const isRight = port[0] === "R";
  const column = plan.x[plan.items.get(child).column];
  const border = isRight ? child.x + child.width : child.x;
  const edge = plan.node.x + (isRight ? column.right : column.left);
  const shift = child.leads?.get(`port${port}`) ?? 0;
  return { from: border, to: edge, y: child.y + child.height / 2 + shift, heading: isRight ? 1 : -1 };
}

const flip = (run) => ({ from: run.to, to: run.from, y: run.y, heading: -run.heading });

function laneRun(plan, lane, isRightward) {
  const column = plan.x[lane.column];
  const run = { from: plan.node.x + column.left, to: plan.node.x + column.right, y: plan.node.y + lane.y, heading: 1 };
  return isRightward ? run : flip(run);
}

/** Lanes from a child to a port, nearest the child first. */
function lanesTo(plan, item, hub, side) {
  const lanes = [];
  const step = side === "R" ? 1 : -1;
  for (let at = item.column + step; at > 0 && at < plan.columns.length - 1; at += step) {
    lanes.push(plan.items.get(`${hub}@${at}`));
  }
  return lanes;
}

/** Lines that meet at one side of a group are spread along it, in the order in which they come. */
function spreadEnds(journeys, routes) {
  const ends = new Map();
  const note = (node, side, entry) => {
    const key = `${node.id}\n${side}`;
    if (!ends.has(key)) ends.set(key, { node, list: [] });
    ends.get(key).list.push(entry);
  };
  for (const { link, exit, entry } of journeys) {
    const runs = routes.get(link.id);
    const [first, last] = [runs[0], runs.at(-1)];
    note(link.source, exit, { runs, run: first, isSource: true, beyond: runs[1].y, far: last.y });
    note(link.target, entry, { runs, run: last, isSource: false, beyond: runs.at(-2).y, far: first.y });
  }
  for (const { node, list } of ends.values()) {
    list.sort((a, b) => a.beyond - b.beyond || a.far - b.far);
    const step = Math.min(11, (node.height - 18) / Math.max(1, list.length - 1));
    const isLong = ({ run }) => Math.abs(run.to - run.from) > SPACE.reach;
    const isCable = list.length > 2 && list.every(isLong);
    list.forEach((each, index) => spreadEnd(each, (index - (list.length - 1) / 2) * step, isCable));
  }
}

/** Move one end; of many that would run far side by side, each joins a cable soon: out above, in below. */
function spreadEnd({ runs, run, isSource }, shift, isCable) {
  const near = { ...run, y: run.y + shift };
  if (!isCable) {
    Object.assign(run, near);
    return;
  }
  const reach = SPACE.reach * 0.7 * run.heading;
  if (isSource) runs.splice(0, 1, { ...near, to: run.from }, { ...run, from: run.from + reach, y: run.y - 6 });
  else runs.splice(-1, 1, { ...run, to: run.to - reach, y: run.y + 6 }, { ...near, from: run.to });
}
