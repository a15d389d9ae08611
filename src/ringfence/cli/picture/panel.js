// The side panel: what needs a decision, and everything known of the box or edge that is picked.

const PANEL_MOST = 60;

/** Nothing picked: the whole estate, and where to begin. */
function overviewPanel(model, scene_, filter, on) {
  const rows = scene_.edges.map((edge) => ({ edge, sums: tally([edge], filter) })).filter((row) => row.sums)
    .sort((a, b) => byAttention({ ...a.sums, index: a.edge.index }, { ...b.sums, index: b.edge.index }));
  const open = rows.filter((row) => row.sums.status !== "allowed");
  const all = census(model.root);
  return [
    el("h2", {}, "Overview"),
    shareBar(tally(scene_.edges, filter)),
    facts([
      ["Groups", count(model.groups.length)], ["Workloads", `${count(all.workloads)}, ${count(all.controlled)} controlled`],
      ["Modes", [...all.modes].sort((a, b) => b[1] - a[1]).map(([mode, n]) => `${count(n)} ${mode}`).join(", ") || "–"],
      ["Traffic", `${plural(model.doc.summary.connections, "connection")}, ${size(model.doc.summary.bytes)}`],
    ]),
    el("h3", {}, open.length ? `Not covered by an allow (${count(open.length)})` : "Everything shown is allowed by a rule"),
    edgeList(open, bothEnds, on),
  ];
}

/** One edge, or several between the same two boxes; `ends` are { name, where }. */
function edgePanel(edges, ends, filter, on) {
  const sums = tally(edges, filter) ?? tally(edges, { statuses: new Set(STATUSES), service: "" });
  const edge = edges.length === 1 ? edges[0] : null;
  return [
    el("h2", { class: "route" }, el("span", {}, ends[0].name), el("i", { "aria-label": "to" }, "→"), el("span", {}, ends[1].name)),
    el("p", { class: "faint" }, [...new Set(ends.map((end) => end.where))].filter(Boolean).join(" → ")),
    el("p", { class: "badges" }, ATTENTION.filter((status) => sums.strands.has(status)).map((status) =>
      badge(status, `${STATUS.get(status).word}: ${brief(sums.strands.get(status).connections)}`))),
    edge ? reading(edge) : null,
    facts([
      ["Connections", count(sums.connections)], ["Volume", `${size(sums.bytes)}, ${count(sums.packets)} packets`],
      ["First seen", moment(sums.first)], ["Last seen", moment(sums.last)], ...(edge ? edgeFacts(edge) : [["Edges", count(edges.length)]]),
    ]),
    ...(edge ? [serviceTable(edge, on), talkerList(edge), draftRule(edge)] : [
      el("h3", {}, "Edges"),
      edgeList(edges.map((each) => ({ edge: each, sums: tally([each], filter) })).filter((row) => row.sums)
        .sort((a, b) => byAttention(a.sums, b.sums)), bothEnds, on),
    ]),
  ];
}

function edgeFacts(edge) {
  const rows = [["Direction", edge.direction], ["Pairs of ends", count(edge.pairs)]];
  const said = Object.entries(edge.reported).map(([word, n]) => `${count(n)} ${word}`).join(", ");
  if (said) rows.push(["Reported", said]);
  if (edge.guessed_direction) rows.push(["Direction guessed", `${plural(edge.guessed_direction, "connection")}, from port numbers only`]);
  return rows;
}

/** What the worst verdict of an edge means, in a sentence. */
function reading(edge) {
  const use = edge.services[0];
  const rule = use.rule ? printable(use.rule) : "";
  const sentences = {
    allow: `Allowed by ${rule}.`, essential: "Essential traffic, which always passes.", uncontrolled: "Neither end has an enforcement point, so no policy holds this traffic.",
    forbid: `Rule ${rule} forbids it; no allow lifts that.`, deny: `Rule ${rule} denies it, and no allow opens it.`, quarantine: "An end is in quarantine.",
    default: "No rule allows it.",
  };
  const now = use.verdict === "would-block" ? " It still passes, and stops once its end enforces." : use.verdict === "blocked" && use.reason !== "quarantine" ? " It is stopped." : "";
  return el("p", { class: `reading edge-${use.status}` }, use.verdict ? `${sentences[use.reason]}${now}` : "Not judged: the map was drawn without policies.");
}

function serviceTable(edge, on) {
  const rows = edge.services.map((use) => el("tr", {},
    el("td", {}, el("b", { class: `ink-${use.status}`, title: STATUS.get(use.status).word }, STATUS.get(use.status).mark, el("span", { class: "hidden" }, STATUS.get(use.status).word))),
    el("td", {}, el("button", { type: "button", class: "link", title: "Show only this service", onclick: () => on.service(use.service) }, printable(use.service)), pointsOf(use),
      el("small", { class: use.rule ? "rule" : "rule faint" }, use.rule ? printable(use.rule) : absence(use))),
    el("td", { class: "number", title: `${count(use.connections)} connections` }, brief(use.connections)), el("td", { class: "number" }, size(use.bytes)),
    el("td", { class: "time", title: `first ${moment(use.first)}, last ${moment(use.last)}` }, moment(use.last).slice(0, 10))));
  const more = edge.more.map((rest) => el("tr", {}, el("td", {}, el("b", { class: `ink-${rest.status}` }, STATUS.get(rest.status).mark)),
    el("td", { class: "faint" }, `${plural(rest.services, "more service")}`), el("td", { class: "number" }, brief(rest.connections)), el("td", { class: "number" }, size(rest.bytes)), el("td")));
  return el("section", {}, el("h3", {}, "Services"), el("table", { class: "services" },
    el("thead", {}, el("tr", {}, el("th", {}, el("span", { class: "hidden" }, "Verdict")), el("th", {}, "Service and rule"), el("th", { class: "number" }, "Conn."), el("th", { class: "number" }, "Bytes"), el("th", {}, "Last seen"))),
    el("tbody", {}, rows, more)));
}

/** The protocols and ports behind a name. */
function pointsOf(use) {
  const text = use.points.join(" ") + (use.point_count > use.points.length ? ` and ${count(use.point_count - use.points.length)} more` : "");
  return text === use.service ? null : el("small", { class: "faint" }, ` ${text}`);
}

function absence(use) {
  if (!use.verdict) return "not judged";
  return { uncontrolled: "not controlled", essential: "essential", quarantine: "quarantine" }[use.reason] ?? "no rule";
}

function talkerList(edge) {
  const rest = edge.pairs - edge.talkers.length;
  return el("section", {}, el("h3", {}, "Busiest pairs"), el("ol", { class: "talkers" },
    edge.talkers.map((pair) => el("li", {}, el("span", {}, printable(pair.source)), " → ", el("span", {}, printable(pair.destination)), el("em", {}, brief(pair.connections))))),
    rest > 0 ? el("p", { class: "faint" }, `and ${plural(rest, "more pair")}`) : null);
}

/** A rule that would allow exactly what no rule covers yet; for a person to judge, never applied from here. */
function draftRule(edge) {
  const uses = edge.services.filter((use) => use.reason === "default" && use.point_count === use.points.length);
  if (!uses.length || !edge.from.selector || !edge.to.selector) return null;
  const peer = (group) => (group.selector === "internet" ? "internet" : JSON.stringify(group.selector));
  const services = [...new Set(uses.flatMap((use) => use.points))].sort();
  const text = `- allow:\n    from: ${peer(edge.from)}\n    to: ${peer(edge.to)}\n    service: [${services.join(", ")}]`;
  const button = el("button", { type: "button", onclick: async () => { await copyText(text); button.textContent = "Copied"; } }, "Copy");
  return el("section", { class: "draft" }, el("h3", {}, "If this is wanted", button), el("pre", {}, text));
}

function boxPanel(box, scene_, { filter, isOpen }, on) {
  const all = census(box);
  const hold = holdOf(box);
  const group = box.group;
  const mine = new Set(box.groups);
  const rows = scene_.edges.map((edge) => ({ edge, sums: tally([edge], filter) })).filter((row) => row.sums).sort((a, b) => byAttention(a.sums, b.sums));
  const incoming = rows.filter(({ edge }) => mine.has(edge.to) && !mine.has(edge.from));
  const outgoing = rows.filter(({ edge }) => mine.has(edge.from) && !mine.has(edge.to));
  const within = rows.filter(({ edge }) => mine.has(edge.from) && mine.has(edge.to));
  const list = (title, found, name) => (found.length ? el("section", {}, el("h3", {}, `${title} (${count(found.length)})`), edgeList(found, name, on)) : null);
  return [
    el("h2", {}, printable(box.title)),
    box.parent && box.parent.id !== "root" ? el("p", { class: "faint" }, printable(box.parent.path)) : null,
    el("p", { class: "actions" },
      isContainer(box) ? el("button", { type: "button", onclick: () => on.toggle(box.id) }, isOpen ? "Close" : "Open") : null,
      el("button", { type: "button", onclick: () => on.focus(box.id) }, "Show only its traffic")),
    facts([
      ...(group?.kind === "workloads" || !group ? [["Workloads", `${count(all.workloads)}, ${count(all.controlled)} controlled`], ["Modes", hold.text]] : [["Addresses", count(all.addresses)]]),
      ...(group ? Object.entries(group.labels).map(([key, value]) => [printable(key), value === null ? "–" : printable(value)]) : [["Groups", count(box.groups.length)]]),
    ]),
    group?.selector ? el("p", { class: "selector" }, el("code", {}, printable(group.selector)), copyButton(group.selector)) : null,
    list("Incoming", incoming, (edge) => [edge.from]), list("Outgoing", outgoing, (edge) => [edge.to]),
    list("Within", within, bothEnds),
    group?.members.length ? el("section", {}, el("h3", {}, `Workloads (${count(group.workloads)})`), el("ul", { class: "members" }, group.members.map((name) => el("li", {}, printable(name)))),
      group.workloads > group.members.length ? el("p", { class: "faint" }, `and ${count(group.workloads - group.members.length)} more`) : null) : null,
  ];
}

function copyButton(text) {
  const button = el("button", { type: "button", onclick: async () => { await copyText(text); button.textContent = "Copied"; } }, "Copy");
  return button;
}

const facts = (rows) => el("dl", {}, rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

const bothEnds = (edge) => [edge.from, edge.to];

/** Edges as buttons, with their verdict, ends, services and volume; `ends` picks the groups worth naming. */
function edgeList(rows, ends, on) {
  const item = ({ edge, sums }) => {
    const groups = ends(edge);
    const where = [...new Set(groups.map(placeWords))].filter(Boolean).join(" → ");
    const names = groups.map(shortName).flatMap((name, at) => (at ? [el("i", {}, " → "), name] : [name]));
    return el("li", {}, el("button", { type: "button", title: groups.map((group) => printable(group.name)).join(" → "), onclick: () => on.pick(String(edge.index), "edge") },
      el("b", { class: `ink-${sums.status}` }, STATUS.get(sums.status).mark, el("span", { class: "hidden" }, STATUS.get(sums.status).word)),
      el("span", { class: "ends" }, names, el("small", {}, serviceWords([edge], 3)), where ? el("small", { class: "where" }, where) : null),
      el("em", {}, brief(sums.connections))));
  };
  const list = el("ul", { class: "edges" }, rows.slice(0, PANEL_MOST).map(item));
  if (rows.length > PANEL_MOST) {
    const more = el("button", { type: "button", class: "more", onclick: () => { list.append(...rows.slice(PANEL_MOST).map(item)); more.remove(); } }, `Show ${count(rows.length - PANEL_MOST)} more`);
    return el("div", {}, list, more);
  }
  return list;
}

/** Connections by verdict as one bar with its numbers. */
function shareBar(sums) {
  if (!sums) return el("p", { class: "faint" }, "No traffic passes these filters.");
  const shown = ATTENTION.filter((status) => sums.strands.has(status));
  const bar = svg("svg", { class: "share", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" });
  let x = 0;
  for (const status of shown) {
    const part = Math.max(1.5, (100 * sums.strands.get(status).connections) / sums.connections);
    bar.append(svg("rect", { class: `fill-${status}`, x, width: part, height: 6 }));
    x += part;
  }
  return el("div", {}, bar, el("ul", { class: "shares-key" }, shown.map((status) => el("li", {}, el("b", { class: `ink-${status}` }, STATUS.get(status).mark), `${STATUS.get(status).word} `, el("span", {}, percent(sums.strands.get(status).connections, sums.connections))))));
}

/** Never 0 % of something nor 100 % of less than all. */
function percent(part, whole) {
  const share = (100 * part) / whole;
  if (share > 0 && share < 1) return "<1 %";
  return share > 99 && share < 100 ? ">99 %" : `${Math.round(share)} %`;
}
