// Groups of the map as boxes in boxes: environment, application, role; places that nobody of ours is at beside them.
//
// INVARIANT: the order depends on names alone, so the same groups make the same tree, whatever the traffic.

import type { MapNode } from "./asking";
import type { NearWorkload } from "./near";

export interface Box {
  /** Of groups the selector that picks them: what the API calls the same group asked by fewer labels. */
  id: string;
  name: string;
  /** The label key; of places what they are. */
  key: string;
  depth: number;
  parent: number;
  children: number[];
  /** Index of its group; -1 of boxes that hold others. */
  node: number;
  workloads: number;
  groups: number;
  isPlace: boolean;
  /** The API knows it by its id. */
  isGroup: boolean;
  /** From near: the workload that it is, or that its program runs on. */
  workload?: NearWorkload;
  /** The unit. */
  program?: string;
}

export interface Tree {
  boxes: readonly Box[];
  /** Per group its box. */
  ofNode: Int32Array;
  /** Deepest level there is. */
  depth: number;
}

const NATURAL = new Intl.Collator("en", { numeric: true });
const PLAIN = /^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$/;
/** More networks than this share one box. */
const MOST_NETWORKS = 6;
export const NETWORKS = "@networks";

/** `env=prod,!role`, as the API writes it. */
export const selectorOf = (by: readonly string[], values: readonly (string | null)[]): string =>
  values.map((value, at) => (value === null ? `!${by[at]}` : `${by[at]}=${PLAIN.test(value) ? value : quoted(value)}`)).join(",");

const quoted = (value: string): string => JSON.stringify(value).replace(/[\u007f-\uffff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);

const PLACE_NAMES: Record<string, string> = { internet: "Internet", private: "unlabelled network", multicast: "Multicast", loopback: "Loopback", reserved: "Reserved", name: "by name" };

interface Path {
  node: number;
  ids: string[];
  names: string[];
  keys: string[];
  isPlace: boolean;
}

function pathOf(node: MapNode, index: number, by: readonly string[], isFolded: boolean): Path {
  if (node.kind !== "workloads") {
    const own = { node: index, isPlace: true };
    const name = node.kind === "private" || node.kind === "name" ? node.name : (PLACE_NAMES[node.kind] ?? node.name);
    const key = PLACE_NAMES[node.kind] ?? node.kind;
    if (isFolded && node.kind === "private") return { ...own, ids: [NETWORKS, node.id], names: ["Unlabelled networks", name], keys: ["networks", key] };
    return { ...own, ids: [node.id], names: [name], keys: [key === name ? "outside" : key] };
  }
  const values = by.map((key) => node.labels[key] ?? null);
  return {
    node: index, isPlace: false,
    ids: [...by.slice(0, -1).map((_, at) => selectorOf(by.slice(0, at + 1), values.slice(0, at + 1))), node.id],
    names: values.map((value, at) => value ?? `no ${by[at]}`),
    keys: [...by],
  };
}

export function treeOf(nodes: readonly MapNode[], by: readonly string[]): Tree {
  const isFolded = nodes.filter((node) => node.kind === "private").length > MOST_NETWORKS;
  const paths = nodes.map((node, index) => pathOf(node, index, by, isFolded)).sort(inOrder);
  const boxes: Box[] = [];
  const known = new Map<string, number>();
  const ofNode = new Int32Array(nodes.length).fill(-1);
  for (const path of paths) {
    let parent = -1;
    path.ids.forEach((id, depth) => {
      const key = `${path.isPlace ? "p" : "w"}${depth}|${id}`;
      let at = known.get(key);
      if (at === undefined) {
        at = boxes.length;
        known.set(key, at);
        boxes.push({ id, name: path.names[depth] ?? "", key: path.keys[depth] ?? "", depth, parent, children: [], node: -1, workloads: 0, groups: 0, isPlace: path.isPlace, isGroup: id !== NETWORKS });
        if (parent >= 0) boxes[parent]?.children.push(at);
      }
      const box = boxes[at];
      if (box) [box.workloads, box.groups] = [box.workloads + (nodes[path.node]?.workloads ?? 0), box.groups + 1];
      parent = at;
    });
    const leaf = boxes[parent];
    if (leaf) leaf.node = path.node;
    ofNode[path.node] = parent;
  }
  return { boxes, ofNode, depth: boxes.reduce((most, box) => Math.max(most, box.depth), 0) };
}

/** Places first, the internet before all; then by names, what lacks a label last. */
function inOrder(a: Path, b: Path): number {
  if (a.isPlace !== b.isPlace) return a.isPlace ? -1 : 1;
  for (let at = 0; at < Math.min(a.names.length, b.names.length); at++) {
    const [one, other] = [a.names[at] ?? "", b.names[at] ?? ""];
    if (one === other) continue;
    if (a.isPlace && (a.ids[at] === "internet") !== (b.ids[at] === "internet")) return a.ids[at] === "internet" ? -1 : 1;
    const [lacks, otherLacks] = [one === `no ${a.keys[at]}`, other === `no ${b.keys[at]}`];
    if (lacks !== otherLacks) return lacks ? 1 : -1;
    return NATURAL.compare(one, other) || (one < other ? -1 : 1);
  }
  return a.node - b.node;
}

/** The box that stands for a box where only levels down to `level` are open. */
export function upTo(tree: Tree, box: number, level: number): number {
  let at = box;
  for (let one = tree.boxes[at]; one && one.depth > level; one = tree.boxes[at]) at = one.parent;
  return at;
}

/** `prod › shop › web`. */
export function trail(tree: Tree, box: number): string[] {
  const names: string[] = [];
  for (let one = tree.boxes[box]; one; one = tree.boxes[one.parent]) names.unshift(one.name);
  return names;
}

export function isWithin(tree: Tree, box: number, outer: number): boolean {
  for (let at = box; at >= 0; at = tree.boxes[at]?.parent ?? -1) if (at === outer) return true;
  return false;
}
