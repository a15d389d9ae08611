// The map from near: boxes of groups open to their workloads, each with lines of its own.

import type { components } from "../../api/schema";
import type { MapEdge } from "./asking";
import type { Bundle, Level } from "./bundles";
import { type Ground, levels } from "./picture";
import type { Box, Tree } from "./tree";
import { rankOf } from "./verdicts";

export type NearView = components["schemas"]["NearView"];
export type NearWorkload = NearView["workloads"][number];
type NearEnd = NearView["edges"][number]["source"];

/** Groups open to their workloads at once, the nearest to the middle. */
export const MOST_GROUPS = 24;
/** Of the group's box, in its own measure: for its name above, and at the sides. */
const HEAD = 11;
const SIDE = 4;
const GAP = 2;
const MOST_HIGH = 13;

export interface Opened {
  ground: Ground;
  rects: Float32Array;
  level: (depth: number) => Level;
  /** Workloads and edges that are not drawn. */
  left: { workloads: number; edges: number };
}

/** Without workloads. */
export const closed = (edges: readonly MapEdge[], ground: Ground, rects: Float32Array, isDraft: boolean): Opened =>
  ({ ground, rects, level: levels(edges, ground, isDraft), left: { workloads: 0, edges: 0 } });

/** The same with workloads in the boxes of their groups. Boxes there were keep their numbers. */
export function opened(base: Opened, view: NearView, isDraft: boolean): Opened {
  const { tree } = base.ground;
  const leaves = leavesOf(tree);
  const members = new Map<number, NearWorkload[]>();
  for (const one of view.workloads) {
    const leaf = leaves.get(one.group);
    if (leaf !== undefined) members.set(leaf, [...(members.get(leaf) ?? []), one]);
  }
  const boxes: Box[] = tree.boxes.map((box) => ({ ...box, children: [...box.children] }));
  const rects = [...base.rects];
  const at = new Map<string, number>();
  for (const [leaf, own] of members) {
    const cells = gridIn(base.rects.subarray(leaf * 4, leaf * 4 + 4), own.length);
    own.forEach((workload, index) => {
      at.set(workload.name, boxes.length);
      boxes[leaf]?.children.push(boxes.length);
      boxes.push(boxOf(workload, leaf, (tree.boxes[leaf]?.depth ?? 0) + 1));
      rects.push(...(cells[index] ?? [0, 0, 0, 0]));
    });
  }
  const has = new Uint8Array(boxes.length).fill(1);
  has.set(base.ground.has);
  const seated = { ...tree, boxes, depth: tree.depth + 1 };
  const near = nearLevel(base.level(tree.depth), view, (end) => at.get(end.workload) ?? leaves.get(end.group) ?? -1, new Set(members.keys()), isDraft);
  return {
    ground: { ...base.ground, tree: seated, has }, rects: new Float32Array(rects),
    level: (depth) => (depth > tree.depth ? near : base.level(depth)),
    left: { workloads: Object.values(view.more_workloads).reduce((sum, n) => sum + n, 0), edges: view.more_edges },
  };
}

const leavesOf = (tree: Tree): Map<string, number> => new Map(tree.boxes.flatMap((box, at): [string, number][] => (box.node >= 0 ? [[box.id, at]] : [])));

const boxOf = (workload: NearWorkload, parent: number, depth: number): Box =>
  ({ id: workload.name, name: workload.name, key: "workload", depth, parent, children: [], node: -1, workloads: 1, groups: 0, isPlace: false, isGroup: false, workload });

/** Cells of one size, about as many across as down. */
function gridIn([x = 0, y = 0, width = 0, height = 0]: Float32Array, count: number): number[][] {
  const across = Math.ceil(Math.sqrt(count));
  const down = Math.ceil(count / across);
  const [wide, high] = [(width - 2 * SIDE + GAP) / across - GAP, Math.min(MOST_HIGH, (height - HEAD - SIDE + GAP) / down - GAP)];
  return Array.from({ length: count }, (_, at) => [x + SIDE + (at % across) * (wide + GAP), y + HEAD + Math.floor(at / across) * (high + GAP), wide, high]);
}

/** Lines of workloads; those of groups that are not open stay. */
function nearLevel(base: Level, view: NearView, boxAt: (end: NearEnd) => number, open: ReadonlySet<number>, isDraft: boolean): Level {
  const found = new Map<string, Bundle>();
  for (const edge of view.edges) {
    const [source, destination] = [boxAt(edge.source), boxAt(edge.destination)];
    if (source < 0 || destination < 0) continue;
    const rank = rankOf((isDraft && edge.draft) || edge.status);
    const one = found.get(`${source} ${destination}`);
    if (one) [one.rank, one.connections, one.isChanged] = [Math.min(one.rank, rank), one.connections + edge.connections, one.isChanged || edge.is_changed];
    else found.set(`${source} ${destination}`, { source, destination, rank, connections: edge.connections, edges: [], isChanged: edge.is_changed, services: edge.services });
  }
  const far = base.lines.filter((line) => !open.has(line.source) && !open.has(line.destination)).map((line) => ({ ...line, isFar: true }));
  const own = [...found.values()];
  return {
    lines: [...own.filter((line) => line.source !== line.destination), ...far],
    inner: new Map([...base.inner].filter(([box]) => !open.has(box)).concat(own.filter((line) => line.source === line.destination).map((line) => [line.source, line]))),
  };
}
