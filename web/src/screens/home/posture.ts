// How strictly workloads are held, and by which of their labels; the rest of the posture is the controller's to count.

import type { HostState, ModeName, Workload } from "../../api/types";

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

const TROUBLED: ReadonlySet<HostState> = new Set<HostState>(["drifted", "refused", "unreachable"]);

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
