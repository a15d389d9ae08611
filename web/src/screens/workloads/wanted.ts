// Which workloads a search asks for besides their labels: name or address, state, mode, when they were last heard.

import type { Workload } from "../../api/types";

export interface Wanted {
  text: string;
  state: string;
  mode: string;
  heard: string;
}

export const HEARD: readonly (readonly [string, string])[] = [
  ["", "Heard any time"], ["5m", "Heard within 5 min"], ["not-1h", "Not heard for 1 h"], ["not-1d", "Not heard for 1 day"], ["not-7d", "Not heard for 7 days"], ["never", "Never heard"],
];
const WITHIN_MS: Readonly<Record<string, number>> = { "5m": 300_000 };
const SILENT_MS: Readonly<Record<string, number>> = { "not-1h": 3_600_000, "not-1d": 86_400_000, "not-7d": 604_800_000 };

/** Only those with an agent can be heard. */
function isHeard(one: Workload, heard: string, now: number): boolean {
  if (one.state === "unmanaged") return false;
  const silent = one.seen ? now - Date.parse(one.seen) : Infinity;
  if (heard === "never") return !one.seen;
  const [within, least] = [WITHIN_MS[heard], SILENT_MS[heard]];
  return within !== undefined ? silent <= within : least === undefined || silent >= least;
}

const TROUBLE: readonly string[] = ["drifted", "refused", "reverted", "unreachable"];

/** `trouble`: whoever does not hold what it was given. */
const inState = (one: Workload, state: string): boolean => (state === "trouble" ? TROUBLE.includes(one.state) : one.state === state);

export function isWanted(one: Workload, { text, state, mode, heard }: Wanted, now: number): boolean {
  const word = text.trim().toLowerCase();
  if (state && !inState(one, state)) return false;
  if (mode && (one.state === "unmanaged" || (mode !== one.mode.in && mode !== `out-${one.mode.out}`))) return false;
  if (heard && !isHeard(one, heard, now)) return false;
  return !word || one.name.toLowerCase().includes(word) || one.addresses.some((address) => address.includes(word));
}
