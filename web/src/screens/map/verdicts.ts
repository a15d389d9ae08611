// What policy says of traffic, as it is drawn: a colour, a line, an end and a rank.

import type { MapEdge } from "./asking";

export type Status = MapEdge["now"]["status"];

/** The order of attention: what is unprotected first. Indices are what the shaders know. */
export const STATUSES: readonly Status[] = ["unheld", "would-block", "no-policy", "blocked", "allowed"];

export interface Look {
  word: string;
  help: string;
  /** The token of its colour. */
  colour: string;
  /** On and off along the line, in pixels; empty: solid. */
  dash: readonly number[];
  /** Broad, and its dashes slant. */
  isHatched?: boolean;
}

export const LOOKS: Record<Status, Look> = {
  unheld: { word: "blocked on paper", help: "Policy stops it, but no agent of ours is at an end that would: it passes.", colour: "--unheld", dash: [3, 3], isHatched: true },
  "would-block": { word: "would block", help: "It passes today and stops once its end enforces.", colour: "--would-block", dash: [8, 4] },
  "no-policy": { word: "not covered", help: "Nothing of ours holds it, or no rule speaks of it.", colour: "--no-policy", dash: [2, 4] },
  blocked: { word: "blocked", help: "Policy stops it, at an end where an agent of ours is.", colour: "--blocked", dash: [11, 3, 2, 3] },
  allowed: { word: "allowed", help: "A rule allows it.", colour: "--allowed", dash: [] },
};

export const rankOf = (status: Status): number => STATUSES.indexOf(status);

/** What an edge is shown as: by policy in force, or under the draft. */
export const shownOf = (edge: MapEdge, isDraft: boolean): MapEdge["now"] => (isDraft && edge.draft ? edge.draft : edge.now);

/** Edges by what they are shown as. */
export function tally(edges: readonly MapEdge[], isDraft: boolean): Partial<Record<Status, number>> {
  const sums: Partial<Record<Status, number>> = {};
  for (const edge of edges) sums[shownOf(edge, isDraft).status] = (sums[shownOf(edge, isDraft).status] ?? 0) + 1;
  return sums;
}

export const isChanged = (edge: MapEdge): boolean => edge.draft !== null && edge.draft.status !== edge.now.status;
