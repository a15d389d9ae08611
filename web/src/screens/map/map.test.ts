import { describe, expect, it } from "vitest";
import { bodyOf, type MapEdge, type MapNode, type MapView, questionOf, since } from "./asking";
import { fold } from "./bundles";
import { boxOf, openLine, PROGRAM, WORKLOAD } from "./chosen";
import { fit, zoomed } from "./camera";
import { layout } from "./layout";
import { closed, type NearView, type NearWorkload, opened } from "./near";
import { groundOf, planOf } from "./picture";
import { stepped } from "./square";
import { selectorOf, trail, treeOf, upTo } from "./tree";
import { rankOf } from "./verdicts";

const group = (env: string, app: string, role: string | null): MapNode => ({
  id: selectorOf(["env", "app", "role"], [env, app, role]), name: "", kind: "workloads", labels: { env, app, role }, selector: null, workloads: 2, controlled: 2, kinds: {}, modes: {},
  addresses: 0, jewels: [], is_crown_jewel: false, quarantined: 0, sources: 0, destinations: 0, from_internet: 0, members: [],
});
const place = (id: string): MapNode => ({ ...group("", "", null), id, name: id, kind: "internet", labels: {}, workloads: 0 });
const edge = (source: number, destination: number, status: MapEdge["now"]["status"], connections = 1): MapEdge => ({
  source, destination, now: { status, verdict: null, rules: [], is_uncovered: false }, draft: null, services: [], more_services: 0, connections, bytes: 0,
  first: "2026-01-01T00:00:00Z", last: "2026-01-01T00:00:00Z", pairs: 1, is_north_south: false,
});

const BY = ["env", "app", "role"];
const NODES = [group("prod", "shop", "web"), group("prod", "shop", "db"), group("prod", "crm", null), group("dev", "shop", "web"), place("internet")];
const tree = treeOf(NODES, BY);

describe("tree", () => {
  it("holds groups in boxes by label, places first, what lacks a label last", () => {
    expect(tree.boxes.map((box) => box.name)).toEqual(["Internet", "dev", "shop", "web", "prod", "crm", "no role", "shop", "db", "web"]);
    expect(trail(tree, tree.ofNode[0] ?? -1)).toEqual(["prod", "shop", "web"]);
  });
  it("does not depend on the order of groups", () => {
    expect(treeOf(NODES.toReversed(), BY).boxes.map((box) => box.id)).toEqual(tree.boxes.map((box) => box.id));
  });
  it("names boxes as the API names groups of fewer labels", () => {
    expect(tree.boxes[upTo(tree, tree.ofNode[1] ?? -1, 1)]?.id).toBe("env=prod,app=shop");
    expect(selectorOf(["app", "role"], ["ä b", null])).toBe('app="\\u00e4 b",!role');
  });
});

describe("layout", () => {
  const rects = layout(planOf(tree));
  const rect = (at: number): number[] => [...rects.subarray(at * 4, at * 4 + 4)];
  it("puts every box within its parent, and no two of one parent over each other", () => {
    tree.boxes.forEach((box, at) => {
      const [x = 0, y = 0, w = 0, h = 0] = rect(at);
      if (box.parent >= 0) {
        const [px = 0, py = 0, pw = 0, ph = 0] = rect(box.parent);
        expect(x >= px && y >= py && x + w <= px + pw + 0.01 && y + h <= py + ph + 0.01).toBe(true);
      }
      tree.boxes.forEach((other, index) => {
        if (index <= at || other.parent !== box.parent) return;
        const [ox = 0, oy = 0, ow = 0, oh = 0] = rect(index);
        expect(x + w <= ox || ox + ow <= x || y + h <= oy || oy + oh <= y).toBe(true);
      });
    });
  });
  it("is the same for the same tree", () => expect(layout(planOf(treeOf(NODES, BY)))).toEqual(rects));
});

describe("bundles", () => {
  const edges = [edge(0, 1, "allowed", 5), edge(3, 0, "blocked", 2), edge(3, 1, "would-block", 1), edge(4, 0, "no-policy")];
  it("are as bad as the worst they stand for, and lose no connection", () => {
    const { lines, inner } = fold(edges, tree, (node) => tree.ofNode[node] ?? -1, 0, false);
    expect(lines.map((line) => [tree.boxes[line.source]?.name, tree.boxes[line.destination]?.name, line.rank, line.connections])).toEqual([["dev", "prod", rankOf("would-block"), 3], ["Internet", "prod", rankOf("no-policy"), 1]]);
    expect([...inner.values()].map((line) => line.connections)).toEqual([5]);
  });
});

describe("question", () => {
  it("is read from the address, what is no verdict is none", () => {
    const search = new URLSearchParams("service=https&verdict=evil&by=env,,app,env");
    expect(questionOf(search, "app=shop", 3600)).toEqual({ where: "app=shop", seconds: 3600, service: "https", verdict: "", by: ["env", "app"] });
    expect(bodyOf(questionOf(search, "", 60), 0, null).verdict).toBe(null);
  });
  it("asked twice within a step is the same", () => expect(since(86_400, 1e12)).toBe(since(86_400, 1e12 + 1000)));
});

describe("camera", () => {
  it("keeps the point under the pointer where it is", () => {
    const after = zoomed({ scale: 1, x: 10, y: 20 }, 2, 110, 220);
    expect([(110 - after.x) / after.scale, (220 - after.y) / after.scale]).toEqual([100, 200]);
  });
  it("shows all of a rectangle", () => {
    const { scale, x, y } = fit({ x: 0, y: 0, width: 4000, height: 500 }, 1000, 700);
    expect(x >= 0 && y >= 0 && x + 4000 * scale <= 1000 && y + 500 * scale <= 700).toBe(true);
  });
});

describe("square", () => {
  it("stays within", () => {
    expect(stepped([0, 0], "ArrowLeft", 3)).toEqual([0, 0]);
    expect(stepped([1, 1], "ArrowDown", 3)).toEqual([2, 1]);
    expect(stepped([1, 1], "x", 3)).toBe(null);
  });
});

describe("from near", () => {
  const ground = groundOf({ by: BY, nodes: NODES, edges: [] } as unknown as MapView, undefined);
  const edges = [edge(0, 1, "allowed", 5), edge(2, 3, "blocked", 1), edge(4, 0, "no-policy")];
  const base = closed(edges, ground, layout(planOf(ground.tree)), false);
  const [web, db] = [NODES[0]?.id ?? "", NODES[1]?.id ?? ""];
  const seen: NearView = {
    workloads: ["web-1", "web-2", "web-3"].map((name) => ({ uuid: name, name, group: web, has_agent: name !== "web-2", mode: "observe", programs: [], more_programs: 0 })),
    more_workloads: { [web]: 4 }, more_edges: 2,
    edges: [
      { source: { group: web, workload: "web-1", program: "" }, destination: { group: db, workload: "", program: "" }, status: "allowed", draft: null, is_changed: false, connections: 3, services: ["postgres"] },
      { source: { group: "internet", workload: "", program: "" }, destination: { group: web, workload: "web-2", program: "" }, status: "unheld", draft: null, is_changed: false, connections: 1, services: ["https"] },
    ],
  };
  const near = opened(base, seen, undefined, false);
  const { tree } = near.ground;
  it("workloads are boxes within their group, and boxes there were keep their numbers and places", () => {
    expect(tree.boxes.slice(0, ground.tree.boxes.length).map((box) => box.id)).toEqual(ground.tree.boxes.map((box) => box.id));
    expect([...near.rects.subarray(0, base.rects.length)]).toEqual([...base.rects]);
    const leaf = ground.tree.ofNode[0] ?? -1;
    const [x = 0, y = 0, w = 0, h = 0] = near.rects.subarray(leaf * 4, leaf * 4 + 4);
    for (const at of tree.boxes[leaf]?.children ?? []) {
      const [cx = 0, cy = 0, cw = 0, ch = 0] = near.rects.subarray(at * 4, at * 4 + 4);
      expect(cx >= x && cy >= y && cx + cw <= x + w && cy + ch <= y + h).toBe(true);
    }
    expect(tree.boxes[leaf]?.children.length).toBe(3);
  });
  it("lines of open groups are those of their workloads; what is left out is said", () => {
    const names = (depth: number): string[] => near.level(depth).lines.map((line) => `${tree.boxes[line.source]?.name} ${tree.boxes[line.destination]?.name} ${line.connections}`);
    expect(names(2)).toEqual(base.level(2).lines.map((line) => `${tree.boxes[line.source]?.name} ${tree.boxes[line.destination]?.name} ${line.connections}`));
    expect(names(3)).toEqual(["web-1 db 3", "Internet web-2 1", "no role web 1"]);
    expect(near.left).toEqual({ workloads: 4, edges: 2 });
  });
  it("an edge of a workload is that of its group, asked of it alone", () => {
    const line = near.level(3).lines[1] ?? { source: -1, destination: -1 };
    expect(openLine(tree, line)).toEqual({ group: "", from: "internet", to: web, level: "2", source: "", destination: "web-2" });
  });
  it("from nearest, programs are boxes in their workload, with lines of their own; lines of workloads stay", () => {
    const [first, ...rest] = seen.workloads;
    const units = { ...seen, workloads: [{ ...first, programs: ["nginx.service", "/user.slice/cron.service"] } as NearWorkload, ...rest], edges: seen.edges.map((one) => ({ ...one, source: { ...one.source, program: one.source.workload && "nginx.service" }, connections: 2 })) };
    const nearest = opened(base, seen, units, false);
    const { boxes } = nearest.ground.tree;
    const workload = boxes.findIndex((box) => box.id === "web-1");
    expect(boxes[workload]?.children.map((at) => [boxes[at]?.name, boxes[at]?.depth])).toEqual([["nginx.service", 4], ["cron.service", 4]]);
    const [x = 0, y = 0, w = 0, h = 0] = nearest.rects.subarray(workload * 4, workload * 4 + 4);
    for (const at of boxes[workload]?.children ?? []) {
      const [cx = 0, cy = 0, cw = 0, ch = 0] = nearest.rects.subarray(at * 4, at * 4 + 4);
      expect(cx >= x && cy > y && cx + cw <= x + w && cy + ch <= y + h && ch > 0).toBe(true);
    }
    const names = (depth: number): string[] => nearest.level(depth).lines.map((line) => `${boxes[line.source]?.name} ${boxes[line.destination]?.name} ${line.connections}`);
    expect(names(3)).toEqual(["web-1 db 3", "Internet web-2 1", "no role web 1"]);
    expect(names(4)).toEqual(["nginx.service db 2", "Internet web-2 2", "no role web 1"]);
    const line = nearest.level(4).lines[0] ?? { source: -1, destination: -1 };
    expect(openLine(nearest.ground.tree, line)).toEqual({ group: "", from: web, to: db, level: "2", source: "web-1", destination: "" });
    expect(boxOf(nearest.ground.tree, "web-1 nginx.service", PROGRAM)).toBe(boxes[workload]?.children[0]);
    expect(boxOf(nearest.ground.tree, "web-1", WORKLOAD)).toBe(workload);
  });
});
