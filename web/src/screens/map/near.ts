// The map from near: boxes of groups open to their workloads, and these to their programs, each with lines of its own.

import type { components } from "../../api/schema";
import type { MapEdge } from "./asking";
import type { Bundle, Level } from "./bundles";
import { type Ground, levels } from "./picture";
import type { Box } from "./tree";
import { rankOf } from "./verdicts";

export type NearView = components["schemas"]["NearView"];
export type NearWorkload = NearView["workloads"][number];
type NearEnd = NearView["edges"][number]["source"];

/** Groups open to their workloads at once, the nearest to the middle. */
export const MOST_GROUPS = 24;

/** How boxes stand in a box, in its own measure: room for its name above and at the sides, between them, and how high they get. */
interface Seats {
  head: number;
  side: number;
  gap: number;
  high: number;
}
const WORKLOADS: Seats = { head: 11, side: 4, gap: 2, high: 13 };
const PROGRAMS: Seats = { head: 5, side: 1.5, gap: 1, high: 4.4 };

export interface Opened {
  ground: Ground;
  rects: Float32Array;
  level: (depth: number) => Level;
  /** Levels below the groups: of workloads, and of their programs. */
  near: number;
  /** Workloads and edges that are not drawn. */
  left: { workloads: number; edges: number };
}

/** Without workloads. */
export const closed = (edges: readonly MapEdge[], ground: Ground, rects: Float32Array, isDraft: boolean): Opened =>
  ({ ground, rects, level: levels(edges, ground, isDraft), near: 0, left: { workloads: 0, edges: 0 } });

/** The same with workloads in the boxes of their groups, and programs in those of their workloads. Boxes there were keep their numbers. */
export function opened(base: Opened, view: NearView, nearest: NearView | undefined, isDraft: boolean): Opened {
  const { tree } = base.ground;
  const leaves = new Map(tree.boxes.flatMap((box, at): [string, number][] => (box.node >= 0 ? [[box.id, at]] : [])));
  const room = new Room(tree.boxes, base.rects);
  const workloads = room.seat(view.workloads.flatMap((one): Guest[] => (leaves.has(one.group) ? [{ parent: leaves.get(one.group) ?? -1, id: one.name, name: one.name, key: "workload", workload: one }] : [])), WORKLOADS);
  const programs = room.seat((nearest?.workloads ?? []).flatMap((one) => guestsOf(one, workloads.get(one.name))), PROGRAMS);
  const groupOf = (end: NearEnd): number => leaves.get(end.group) ?? -1;
  const workloadOf = (end: NearEnd): number => workloads.get(end.workload) ?? groupOf(end);
  const open = new Set([...workloads.values()].map((box) => room.boxes[box]?.parent ?? -1));
  const far = base.level(tree.depth);
  const made = [nearLevel(far, view, workloadOf, open, isDraft)];
  if (nearest && programs.size > 0) made.push(nearLevel(far, nearest, (end) => programs.get(idOf(end.workload, end.program)) ?? workloadOf(end), open, isDraft));
  const has = new Uint8Array(room.boxes.length).fill(1);
  has.set(base.ground.has);
  return {
    ground: { ...base.ground, tree: { ...tree, boxes: room.boxes, depth: tree.depth + made.length }, has }, rects: new Float32Array(room.rects),
    level: (depth) => made[Math.min(depth - tree.depth, made.length) - 1] ?? base.level(depth),
    near: made.length,
    left: { workloads: Object.values(view.more_workloads).reduce((sum, n) => sum + n, 0), edges: view.more_edges },
  };
}

type Guest = Pick<Box, "parent" | "id" | "name" | "key" | "workload" | "program">;

/** A program by its workload. */
export const idOf = (workload: string, program: string): string => `${workload} ${program}`;

/** Programs bear the last of their path: what is before it is alike for most. */
const guestsOf = (workload: NearWorkload, parent: number | undefined): Guest[] =>
  parent === undefined ? [] : workload.programs.map((program) => ({ parent, id: idOf(workload.name, program), name: program.split("/").pop() || program, key: "program", workload, program }));

/** Boxes, with more to be put into them. */
class Room {
  readonly boxes: Box[];
  readonly rects: number[];

  constructor(boxes: readonly Box[], rects: Float32Array) {
    this.boxes = boxes.map((box) => ({ ...box, children: [...box.children] }));
    this.rects = [...rects];
  }

  /** Each guest as a box in its parent; by its id the number of its box. */
  seat(guests: readonly Guest[], seats: Seats): Map<string, number> {
    const at = new Map<string, number>();
    const together = new Map<number, Guest[]>();
    for (const guest of guests) together.set(guest.parent, [...(together.get(guest.parent) ?? []), guest]);
    for (const [parent, own] of together) {
      const cells = gridIn(this.rects.slice(parent * 4, parent * 4 + 4), own.length, seats);
      own.forEach((guest, index) => {
        at.set(guest.id, this.boxes.length);
        this.boxes[parent]?.children.push(this.boxes.length);
        this.boxes.push({ ...guest, depth: (this.boxes[parent]?.depth ?? 0) + 1, children: [], node: -1, workloads: 1, groups: 0, isPlace: false, isGroup: false });
        this.rects.push(...(cells[index] ?? [0, 0, 0, 0]));
      });
    }
    return at;
  }
}

/** Cells of one size, about as many across as down. */
function gridIn([x = 0, y = 0, width = 0, height = 0]: readonly number[], count: number, { head, side, gap, high: most }: Seats): number[][] {
  const top = Math.min(head, height * 0.4);
  const across = Math.ceil(Math.sqrt(count));
  const down = Math.ceil(count / across);
  const [wide, high] = [(width - 2 * side + gap) / across - gap, Math.min(most, (height - top - side + gap) / down - gap)];
  return Array.from({ length: count }, (_, at) => [x + side + (at % across) * (wide + gap), y + top + Math.floor(at / across) * (high + gap), wide, high]);
}

/** Lines of what is in open groups; those of groups that are not open stay. */
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
