// How strictly workloads are held, and by which of their labels; the rest of the posture is the controller's to count.

import type { components } from "../../api/schema";
import type { HostState, ModeName, Workload } from "../../api/types";
import type { Tone } from "../../ui/Badge";
import { plural } from "../../words";

/** Inbound is what protects a workload; `none`: nothing of ours is there. */
export type Hold = ModeName | "none";
export const HOLDS: readonly Hold[] = ["enforce", "selective", "observe", "none"];

export const holdOf = (workload: Workload): Hold => (workload.state === "unmanaged" ? "none" : workload.mode.in);

export interface Group {
  name: string;
  /** A selector of it. */
  where: string;
  workloads: number;
  holds: Record<Hold, number>;
  /** Whose host does not hold what it was given, or is not heard. */
  troubled: number;
}

const TROUBLED: ReadonlySet<HostState> = new Set<HostState>(["drifted", "refused", "reverted", "unreachable"]);

export function holdsOf(workloads: readonly Workload[]): Record<Hold, number> {
  const out: Record<Hold, number> = { enforce: 0, selective: 0, observe: 0, none: 0 };
  for (const workload of workloads) out[holdOf(workload)] += 1;
  return out;
}

/** Keys of labels, the most used first. */
export function keysOf(workloads: readonly Workload[]): string[] {
  const uses = new Map<string, number>();
  for (const workload of workloads) for (const key of Object.keys(workload.labels)) uses.set(key, (uses.get(key) ?? 0) + 1);
  return [...uses].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([key]) => key);
}

/** Workloads by the value of a label, the least protected first; at a tie the largest. */
export function groupsBy(workloads: readonly Workload[], key: string): Group[] {
  const members = new Map<string | undefined, Workload[]>();
  for (const workload of workloads) {
    const value = workload.labels[key];
    members.set(value, [...(members.get(value) ?? []), workload]);
  }
  const groups = [...members].map(([value, own]) => ({
    name: value ?? `without ${key}`,
    where: value === undefined ? `!${key}` : `${key}=${value}`,
    workloads: own.length,
    holds: holdsOf(own),
    troubled: own.filter((workload) => TROUBLED.has(workload.state)).length,
  }));
  const open = (group: Group): number => group.workloads - group.holds.enforce;
  return groups.sort((a, b) => open(b) - open(a) || b.workloads - a.workloads || (a.name < b.name ? -1 : 1));
}

export type Traffic = components["schemas"]["Posture"]["coverage"][number];

export interface Part {
  word: string;
  value: number;
  tone: Tone;
  /** Of the map that shows exactly this. */
  verdict: string;
}

/** Of how much traffic a number is: a day, or less where a day of it is too much. */
export function spanOf(hours: number): string {
  return hours === 24 ? "a day" : plural(hours, "hour");
}

/** What becomes of a day's connections as hosts are, and if each had an agent and enforced. Parts add up to all of them. */
export function fateOf(day: Traffic): { now: Part[]; then: Part[] } {
  const stopped = day.blocked + day.would_block + day.unheld;
  const allowed: Part = { word: "are allowed", value: day.connections - stopped - day.uncontrolled, tone: "good", verdict: "allowed" };
  const outside: Part = { word: "with no end of ours", value: day.uncontrolled, tone: "unknown", verdict: "no-policy" };
  return {
    now: [
      allowed, { word: "pass, and no rule says so", value: day.would_block, tone: "warning", verdict: "would-block" },
      { word: "pass, for want of an agent", value: day.unheld, tone: "hatched", verdict: "unheld" }, { word: "are stopped", value: day.blocked, tone: "bad", verdict: "blocked" }, outside,
    ],
    then: [allowed, { word: "would be stopped", value: stopped, tone: "bad", verdict: "" }, outside],
  };
}
