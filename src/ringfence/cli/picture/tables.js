// The same scene as a matrix (who calls down the side, who is called across) and as a table of edges.

const MATRIX_MOST = 30000;
const TABLE_MOST = 500;

/** Rows and columns are the visible boxes; a cell is what its row opens towards its column. */
function matrixView(stage, scene_, query, on) {
  const drawn = scene_.bundles.filter((bundle) => bundle.tally && answers(bundle, query));
  const rows = axis(scene_.leaves, drawn, "source");
  const columns = axis(scene_.leaves, drawn, "target");
  if (rows.length * columns.length > MATRIX_MOST) {
    stage.append(el("p", { class: "empty" }, `${rows.length} × ${columns.length} cells are more than a page can hold. Close some containers on the map, or filter.`));
    return;
  }
  if (!drawn.length) {
    stage.append(el("p", { class: "empty" }, "No traffic passes these filters."));
    return;
  }
  const isRoomy = columns.length * 66 + 300 < stage.clientWidth;
  const cells = new Map(drawn.map((bundle) => [bundle.id, bundle]));
  const head = el("tr", {}, el("td", { class: "corner" }, el("span", {}, "from ↓"), el("span", {}, "to →")),
    columns.map((leaf, at) => el("th", { scope: "col", class: edgeClass(columns, at), title: printable(leaf.box.path) }, axisButton(leaf, on))));
  const body = rows.map((leaf, at) => el("tr", { class: edgeClass(rows, at) },
    el("th", { scope: "row", title: printable(leaf.box.path) }, axisButton(leaf, on)),
    columns.map((other, index) => matrixCell(cells.get(`${leaf.id}\n${other.id}`), leaf, other, { edge: edgeClass(columns, index), isRoomy }, on))));
  const table = el("table", { class: `matrix ${isRoomy ? "roomy" : ""}` }, el("thead", {}, head), el("tbody", {}, body));
  table.addEventListener("keydown", walkCells);
  stage.append(el("div", { class: "scroll" }, table));
  table.querySelector("button.cell")?.setAttribute("tabindex", "0");
}

function axis(leaves, drawn, end) {
  const used = new Set(drawn.map((bundle) => bundle[end]));
  return leaves.filter((leaf) => used.has(leaf));
}

/** A line is drawn where one container ends and the next begins. */
const edgeClass = (list, at) => (at && topOf(list[at].box) !== topOf(list[at - 1].box) ? "edge" : null);
const topOf = (box) => (box.parent && box.parent.id !== "root" ? topOf(box.parent) : box.side ?? box.id);

function axisButton(leaf, on) {
  const parent = leaf.box.parent && leaf.box.parent.id !== "root" ? printable(leaf.box.parent.path) : "";
  return el("button", { type: "button", onclick: () => on.pick(leaf.box.id, "box") },
    el("span", { class: "path" }, parent ? el("small", {}, `${parent} / `) : null, el("span", {}, printable(leaf.box.title))));
}

function matrixCell(bundle, leaf, other, { edge, isRoomy }, on) {
  if (!bundle) return el("td", { class: `${edge ?? ""} ${leaf.box === other.box ? "self" : ""}` });
  const { tally: sums } = bundle;
  const words = `${printable(leaf.box.path)} to ${printable(other.box.path)}: ${STATUS.get(sums.status).word}, ${serviceWords(sums.edges, 3)}, ${plural(sums.connections, "connection")}`;
  const button = el("button", { type: "button", class: `cell back-${sums.status}`, tabindex: "-1", title: words, "aria-label": words, "data-bundle": bundle.id, onclick: () => on.pick(bundle.id, "bundle") },
    el("b", {}, STATUS.get(sums.status).mark), isRoomy ? el("span", {}, brief(sums.connections)) : null);
  button.style.setProperty("--share", stripe(sums));
  button.style.setProperty("--strength", `${1 + Math.min(4, Math.log10(sums.connections + 1) * 0.7)}px`);
  return el("td", { class: edge }, button);
}

/** The verdicts in a cell as a striped underline, each with its share of the connections, none too thin to see. */
function stripe(sums) {
  const shown = STATUSES.filter((status) => sums.strands.has(status)).reverse();
  const weigh = (status) => 0.15 + sums.strands.get(status).connections / sums.connections;
  const total = shown.reduce((sum, status) => sum + weigh(status), 0);
  let at = 0;
  const stops = shown.map((status) => {
    const from = at;
    at += (100 * weigh(status)) / total;
    return `var(--${status}) ${from.toFixed(1)}% ${at.toFixed(1)}%`;
  });
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

/** Arrow keys go to the next filled cell; one cell at a time is in the tab order. */
function walkCells(event) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const button = event.target.closest("button.cell");
  if (!button || !(event.key in steps)) return;
  event.preventDefault();
  const [dy, dx] = steps[event.key];
  const rows = [...button.closest("tbody").rows];
  let row = rows.indexOf(button.closest("tr"));
  let at = button.closest("td").cellIndex;
  for (;;) {
    row += dy;
    at += dx;
    const cell = rows[row]?.cells[at];
    if (!cell || at < 1) return;
    const next = cell.querySelector("button.cell");
    if (!next) continue;
    button.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
    return;
  }
}

const COLUMNS = [
  { name: "Verdict", key: (row) => ATTENTION.indexOf(row.sums.status) },
  { name: "From", key: (row) => row.edge.from.name.toLowerCase() },
  { name: "To", key: (row) => row.edge.to.name.toLowerCase() },
  { name: "Services", key: (row) => row.words },
  { name: "Connections", key: (row) => -row.sums.connections, isNumber: true },
  { name: "Bytes", key: (row) => -row.sums.bytes, isNumber: true },
  { name: "First seen", key: (row) => row.sums.first ?? "" },
  { name: "Last seen", key: (row) => row.sums.last ?? "" },
  { name: "Rule", key: (row) => row.edge.rules.join(", ") },
];

/** One row an edge; `state` holds the filters, the query and how to sort. */
function tableView(stage, scene_, state, on) {
  const { sort } = state;
  const rows = scene_.edges.filter((edge) => edgeAnswers(edge, state.query)).map((edge) => ({ edge, sums: tally([edge], state), words: serviceWords([edge], 3) })).filter((row) => row.sums);
  const { key } = COLUMNS[sort.at];
  const compare = (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : b.sums.connections - a.sums.connections || a.edge.index - b.edge.index);
  rows.sort((a, b) => (sort.down ? compare(b, a) : compare(a, b)));
  const head = COLUMNS.map((column, at) => el("th", { scope: "col", class: column.isNumber ? "number" : null, "aria-sort": at === sort.at ? (sort.down ? "descending" : "ascending") : null },
    el("button", { type: "button", onclick: () => on.sort(at) }, column.name, el("span", { "aria-hidden": "true" }, at === sort.at ? (sort.down ? " ↓" : " ↑") : ""))));
  const body = el("tbody", {}, rows.slice(0, TABLE_MOST).map((row) => tableRow(row, on)));
  const more = rows.length > TABLE_MOST
    ? el("button", { type: "button", class: "more", onclick: (event) => { body.append(...rows.slice(TABLE_MOST).map((row) => tableRow(row, on))); event.target.remove(); } }, `Show ${plural(rows.length - TABLE_MOST, "more edge")}`)
    : null;
  stage.append(el("div", { class: "scroll" },
    rows.length ? el("table", { class: "list" }, el("thead", {}, el("tr", {}, head)), body) : el("p", { class: "empty" }, "No traffic passes these filters."), more));
}

function tableRow({ edge, sums, words }, on) {
  const open = () => on.pick(String(edge.index), "edge");
  const row = el("tr", { tabindex: "0", "data-edge": edge.index, onclick: open, onkeydown: (event) => { if (event.key === "Enter") open(); } },
    el("td", {}, badge(sums.status)),
    nameCell(edge.from), nameCell(edge.to),
    el("td", {}, words), el("td", { class: "number" }, count(sums.connections)), el("td", { class: "number" }, size(sums.bytes)),
    el("td", { class: "time" }, moment(sums.first)), el("td", { class: "time" }, moment(sums.last)),
    el("td", { class: edge.rules.length ? null : "faint" }, edge.rules.map(printable).join(", ") || absence(edge.services[0])));
  return row;
}

/** A group's name on one line; where it is too long its containers give way first. */
function nameCell(group) {
  const where = placeWords(group);
  return el("td", { title: printable(group.name) }, el("span", { class: "path" }, where ? el("small", {}, `${where} / `) : null, el("span", {}, shortName(group))));
}

function badge(status, words = STATUS.get(status).word) {
  return el("span", { class: `badge back-${status}` }, el("b", { "aria-hidden": "true" }, STATUS.get(status).mark), words);
}
