// What is open beside the map, as the address has it: a group, or what goes between two.

import type { Bundle } from "./bundles";
import { type Box, NETWORKS, type Tree } from "./tree";

/** Of an end that only a selector or a word names: no group of the map. */
export const PAIR = "pair";
export const WORKLOAD = "workload";
export const PROGRAM = "program";

export interface Open {
  group: string;
  from: string;
  to: string;
  /** The depth of the boxes; `pair`: ends are selectors, segments or words; `workload`, `program`: the group is one. */
  level: string;
  /** Workloads at the ends, by name; empty: all of the group. */
  source: string;
  destination: string;
}

export const NOTHING: Open = { group: "", from: "", to: "", level: "", source: "", destination: "" };

export const openOf = (search: URLSearchParams): Open => ({ group: search.get("group") ?? "", from: search.get("from") ?? "", to: search.get("to") ?? "", level: search.get("level") ?? "", source: search.get("source") ?? "", destination: search.get("destination") ?? "" });

export const openGroup = (tree: Tree, box: number): Open => {
  const one = tree.boxes[box];
  return { ...NOTHING, group: one?.id ?? "", level: one?.program !== undefined ? PROGRAM : one?.workload ? WORKLOAD : String(one?.depth ?? 0) };
};

/** Ends that are groups at one depth are asked as an edge; networks taken together are asked as a pair. */
export function openLine(tree: Tree, line: Pick<Bundle, "source" | "destination">): Open {
  const [from, to] = [tree.boxes[line.source], tree.boxes[line.destination]];
  if (!from || !to) return NOTHING;
  if (from.workload || to.workload) return openNear(from, to);
  const isPair = from.id === NETWORKS || to.id === NETWORKS;
  const name = (id: string): string => (id === NETWORKS ? "private" : id);
  const depth = Math.max(from.isPlace ? 0 : from.depth, to.isPlace ? 0 : to.depth);
  return { ...NOTHING, from: name(from.id), to: name(to.id), level: isPair ? PAIR : String(depth) };
}

/** Between workloads or their programs, or one and a group: an edge of their groups, asked of these workloads alone. */
function openNear(from: Box, to: Box): Open {
  const groupOf = (box: Box): string => (box.workload ? box.workload.group : box.id);
  const one = from.workload ? from : to;
  const below = one.program !== undefined ? 2 : 1;
  return { group: "", from: groupOf(from), to: groupOf(to), level: String(one.depth - below), source: from.workload?.name ?? "", destination: to.workload?.name ?? "" };
}

/** The box that an id means at a level; -1: none that is on the map. */
export function boxOf(tree: Tree, id: string, level: string): number {
  if (level === WORKLOAD || level === PROGRAM) return tree.boxes.findIndex((box) => box.key === level && box.workload !== undefined && box.id === id);
  const wanted = level === PAIR && id === "private" ? NETWORKS : id;
  const exact = tree.boxes.findIndex((box) => box.id === wanted && (box.isPlace || String(box.depth) === level));
  return exact >= 0 ? exact : tree.boxes.findIndex((box) => box.id === wanted);
}

/** How many label keys an edge of a level is asked by. */
export const keysAt = (by: readonly string[], level: string): string[] => by.slice(0, /^\d+$/.test(level) ? Number(level) + 1 : by.length);
