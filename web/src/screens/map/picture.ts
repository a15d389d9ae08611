// From an answer of the API to what the stage shows: the boxes of all groups there are, the edges of those asked for.

import type { MapEdge, MapNode, MapView } from "./asking";
import { fold, type Level } from "./bundles";
import type { Plan } from "./layout";
import { treeOf, type Tree } from "./tree";

export interface Ground {
  tree: Tree;
  nodes: readonly MapNode[];
  /** Per box whether something of the answer is in it. */
  has: Uint8Array;
  /** Per group of the answer its box. */
  boxOf: Int32Array;
  /** Boxes of groups of the answer. */
  asked: readonly number[];
}

const idOf = (node: MapNode): string => `${node.kind} ${node.id}`;

/** Groups keep their places when a narrower question leaves some out: `whole` is the answer to the widest one. */
export function groundOf(view: MapView, whole: MapView | undefined): Ground {
  const known = new Map((whole?.nodes ?? []).map((node) => [idOf(node), node]));
  for (const node of view.nodes) known.set(idOf(node), node);
  const nodes = [...known.values()];
  const tree = treeOf(nodes, view.by);
  const place = new Map(nodes.map((node, index) => [idOf(node), tree.ofNode[index] ?? -1]));
  const boxOf = Int32Array.from(view.nodes, (node) => place.get(idOf(node)) ?? -1);
  const has = new Uint8Array(tree.boxes.length);
  for (const box of boxOf) for (let at = box; at >= 0 && !has[at]; at = tree.boxes[at]?.parent ?? -1) has[at] = 1;
  return { tree, nodes, has, boxOf, asked: [...boxOf].filter((box) => box >= 0) };
}

export const planOf = (tree: Tree): Plan => ({
  parent: Int32Array.from(tree.boxes, (box) => box.parent),
  isPlace: Uint8Array.from(tree.boxes, (box) => (box.isPlace ? 1 : 0)),
});

export const isSamePlan = (a: Plan, b: Plan): boolean =>
  a.parent.length === b.parent.length && a.parent.every((parent, at) => parent === b.parent[at]) && a.isPlace.every((is, at) => is === b.isPlace[at]);

/** Folded once a level. */
export function levels(edges: readonly MapEdge[], ground: Ground, isDraft: boolean): (depth: number) => Level {
  const made = new Map<number, Level>();
  return (depth) => {
    const found = made.get(depth) ?? fold(edges, ground.tree, (node) => ground.boxOf[node] ?? -1, depth, isDraft);
    made.set(depth, found);
    return found;
  };
}

/** Boxes whose name has the text, the largest first; a group by one of its workloads too. */
export function search(ground: Ground, text: string, most: number): number[] {
  const word = text.trim().toLowerCase();
  if (!word) return [];
  const found: { at: number; rank: number }[] = [];
  ground.tree.boxes.forEach((box, at) => {
    const name = box.name.toLowerCase();
    const rank = name === word ? 0 : name.startsWith(word) ? 1 : name.includes(word) ? 2 : box.id.toLowerCase().includes(word) ? 3 : ground.nodes[box.node]?.members.some((one) => one.toLowerCase().includes(word)) ? 4 : 9;
    if (rank < 9) found.push({ at, rank: rank * 10 + box.depth });
  });
  return found.sort((a, b) => a.rank - b.rank || a.at - b.at).slice(0, most).map((one) => one.at);
}
