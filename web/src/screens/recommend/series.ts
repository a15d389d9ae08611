// Connections over time as a picture: where bars stand, how high they are, and which stretch a brush picks.

import type { Series } from "./asking";

export const KINDS = ["allowed", "escaped", "opened", "blocked"] as const;
export type Kind = (typeof KINDS)[number];

/** What would stop is at the bottom, so that it is seen to rise. */
const STACK: readonly Kind[] = ["escaped", "blocked", "opened", "allowed"];
/** A short watch is shown as short. */
const FEWEST = 12;
const HOUR_MS = 3_600_000;

export interface Bar {
  at: number;
  /** Shares of the width. */
  x: number;
  width: number;
  pieces: { kind: Kind; y: number; height: number }[];
}

export interface Picture {
  bars: Bar[];
  most: number;
  first: number;
  last: number;
}

/** Shares of 1 both ways; y from the bottom. Stretches without traffic have no bar, but their room. */
export function pictureOf(series: Series, bucketH: number): Picture {
  const step = bucketH * HOUR_MS;
  const starts = series.start.map((time) => Date.parse(time));
  const last = (starts.at(-1) ?? 0) + step;
  const first = Math.min(starts[0] ?? 0, last - FEWEST * step);
  const span = last - first;
  const sums = starts.map((_, at) => STACK.reduce((sum, kind) => sum + (series[kind][at] ?? 0), 0));
  const most = Math.max(1, ...sums);
  const bars = starts.map((at, index): Bar => {
    let y = 0;
    const pieces = STACK.map((kind) => {
      const height = (series[kind][index] ?? 0) / most;
      y += height;
      return { kind, y: y - height, height };
    }).filter((piece) => piece.height > 0);
    return { at, x: (at - first) / span, width: step / span, pieces };
  });
  return { bars, most, first, last };
}

export const totalsOf = (series: Series): Record<Kind, number> =>
  Object.fromEntries(KINDS.map((kind) => [kind, series[kind].reduce((sum, n) => sum + n, 0)])) as Record<Kind, number>;

/** An hour a bar as far as two weeks, then six hours, then a day. */
export const bucketOf = (days: number): number => (days <= 14 ? 1 : days <= 60 ? 6 : 24);

export interface Span {
  since: number;
  until: number;
}

/** The stretch between two shares of the width, out to whole bars; none where it is all of it. */
export function spanOf(picture: Picture, a: number, b: number, bucketH: number): Span | null {
  const step = bucketH * HOUR_MS;
  const at = (share: number): number => picture.first + Math.min(1, Math.max(0, share)) * (picture.last - picture.first);
  const since = picture.first + Math.floor((at(Math.min(a, b)) - picture.first) / step) * step;
  const until = Math.min(picture.last, picture.first + Math.max(1, Math.ceil((at(Math.max(a, b)) - picture.first) / step)) * step);
  return since <= picture.first && until >= picture.last ? null : { since, until: Math.max(until, since + step) };
}

/** `START..END`, both ISO, as the address has it. */
export function spanIn(text: string | null): Span | null {
  const [since, until] = (text ?? "").split("..").map((part) => Date.parse(part));
  return since !== undefined && until !== undefined && since < until ? { since, until } : null;
}

export const spanText = (span: Span | null): string => (span ? `${new Date(span.since).toISOString()}..${new Date(span.until).toISOString()}` : "");
