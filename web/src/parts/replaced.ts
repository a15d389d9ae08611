// Quarantines whose place another takes, a line each.

import { count, printable } from "../words";

export interface Replaced {
  id: string;
  name: string;
  level: string;
  by: string;
  why: string;
  until: string | null;
  weaker: readonly string[];
}

const SHOWN = 5;

/** The first few, and how many more: those that would be weakened come first. */
export function replacedHere(found: readonly Replaced[], at: (time: string) => string): string[] {
  const lines = found.slice(0, SHOWN).map((one) => {
    const until = one.until ? `until ${at(one.until)}` : "until somebody releases it";
    const weaker = one.weaker.length > 0 ? ` It ${one.weaker.map(printable).join(", and ")}.` : "";
    return `${printable(one.name)}: ${one.level}, ${until}, by ${printable(one.by)}, ${one.id}: ${printable(one.why)}.${weaker}`;
  });
  return found.length > SHOWN ? [...lines, `and ${count(found.length - SHOWN)} more`] : lines;
}
