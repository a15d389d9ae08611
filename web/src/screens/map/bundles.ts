// Edges folded to the boxes that are open: between two boxes one line, as bad as the worst it stands for.

import type { MapEdge } from "./asking";
import { upTo, type Tree } from "./tree";
import { isChanged, rankOf, shownOf } from "./verdicts";

export interface Bundle {
  source: number;
  destination: number;
  /** Index into STATUSES. */
  rank: number;
  connections: number;
  /** Indices of the edges it stands for, as the answer orders them: unprotected first. */
  edges: number[];
  isChanged: boolean;
  /** Between workloads: the busiest. */
  services?: readonly string[];
  /** It passes by what is looked at from near. */
  isFar?: boolean;
}

export interface Level {
  /** What the draft changes, then unprotected first, then busiest. */
  lines: readonly Bundle[];
  /** By box: what stays inside it. */
  inner: ReadonlyMap<number, Bundle>;
}

/** What is drawn where boxes deeper than `level` are closed. */
export function fold(edges: readonly MapEdge[], tree: Tree, boxOf: (node: number) => number, level: number, isDraft: boolean): Level {
  const found = new Map<number, Bundle>();
  const size = tree.boxes.length;
  edges.forEach((edge, index) => {
    const source = upTo(tree, boxOf(edge.source), level);
    const destination = upTo(tree, boxOf(edge.destination), level);
    if (source < 0 || destination < 0) return;
    const key = source * size + destination;
    const rank = rankOf(shownOf(edge, isDraft).status);
    const one = found.get(key);
    if (!one) found.set(key, { source, destination, rank, connections: edge.connections, edges: [index], isChanged: isChanged(edge) });
    else {
      one.rank = Math.min(one.rank, rank);
      one.connections += edge.connections;
      one.isChanged ||= isChanged(edge);
      one.edges.push(index);
    }
  });
  const all = [...found.values()].sort((a, b) => Number(isDraft && b.isChanged) - Number(isDraft && a.isChanged) || a.rank - b.rank || b.connections - a.connections || a.source - b.source || a.destination - b.destination);
  return {
    lines: all.filter((one) => one.source !== one.destination),
    inner: new Map(all.filter((one) => one.source === one.destination).map((one) => [one.source, one])),
  };
}
