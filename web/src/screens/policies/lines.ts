// Two texts line by line, far-off equal lines folded away.

import { diffLines } from "diff";

export interface Line {
  change: "added" | "removed" | "same";
  text: string;
}

const AROUND = 3;

/** All lines, changed and not. */
export function lines(before: string, after: string): Line[] {
  return diffLines(before, after).flatMap((part) => {
    const change = part.added ? "added" : part.removed ? "removed" : "same";
    return part.value.replace(/\n$/, "").split("\n").map((text): Line => ({ change, text }));
  });
}

/** Changed lines with a few around them; what is left out is one line that says how much. */
export function folded(all: readonly Line[]): Line[] {
  const near = new Set(all.flatMap((line, at) => (line.change === "same" ? [] : Array.from({ length: 2 * AROUND + 1 }, (_, n) => at + n - AROUND))));
  const shown: Line[] = [];
  let skipped = 0;
  const say = (): void => {
    if (skipped > 0) shown.push({ change: "same", text: `⋯ ${skipped} ${skipped === 1 ? "line" : "lines"}` });
    skipped = 0;
  };
  all.forEach((line, at) => {
    if (!near.has(at)) return void skipped++;
    say();
    shown.push(line);
  });
  say();
  return shown;
}

export const counts = (all: readonly Line[]): { added: number; removed: number } => ({
  added: all.filter((line) => line.change === "added").length,
  removed: all.filter((line) => line.change === "removed").length,
});
