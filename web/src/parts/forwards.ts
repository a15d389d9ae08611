// What hosts pass on for others, which ends with their isolation, in words.

import { printable } from "../words";

const SHOWN = 3;

/** Empty: none of them forwards. */
export function passedOn(hit: readonly { name: string; forwards: boolean }[]): string {
  const names = hit.filter((one) => one.forwards).map((one) => one.name);
  if (names.length === 0) return "";
  const shown = names.slice(0, SHOWN).map(printable).join(", ") + (names.length > SHOWN ? " ..." : "");
  return `What ${shown} ${names.length === 1 ? "passes" : "pass"} on for others (containers?) is dropped, too.`;
}
