// How protected the estate is, counted from its workloads and the controller's status.

import type { HostState, ModeName, Status, Workload } from "../../api/types";
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

export interface Step {
  text: string;
  why: string;
  to: string;
}

/** What to do next, the most pressing first. */
export function nextSteps(status: Status, workloads: readonly Workload[]): Step[] {
  const agents = status.agents;
  const holds = holdsOf(workloads);
  const of = (state: HostState): number => agents[state] ?? 0;
  const steps: (Step | false)[] = [
    (status.alerts.critical ?? 0) > 0 && { text: `Look at ${plural(status.alerts.critical ?? 0, "critical alert")}`, why: "somebody may be moving through the estate", to: "/alerts" },
    of("drifted") > 0 && { text: `Restore ${plural(of("drifted"), "drifted host")}`, why: "their kernels hold something else than they were given", to: "/workloads?state=drifted" },
    of("refused") > 0 && { text: `See why ${plural(of("refused"), "host")} refused`, why: "they keep the policy they had", to: "/workloads?state=refused" },
    status.rollout.problem !== "" && { text: `The rollout of version ${status.rollout.version} stopped`, why: status.rollout.problem, to: "/workloads" },
    of("unreachable") > 0 && { text: `Find ${plural(of("unreachable"), "unreachable host")}`, why: "they keep their policy, but nothing new reaches them", to: "/workloads?state=unreachable" },
    status.policy_version === 0 && workloads.length > 0 && { text: "Publish a first policy", why: "without one nothing is protected: ringfence recommend, then ringfence apply", to: "/workloads" },
    status.policy_version > 0 && holds.observe > 0 && { text: `Enforce ${plural(holds.observe, "workload")} in observe`, why: "they tell what they would block, and block nothing", to: "/workloads?mode=observe" },
    status.policy_version > 0 && holds.selective > 0 && { text: `Close ${plural(holds.selective, "workload")} in selective`, why: "what no rule speaks of still passes there", to: "/workloads?mode=selective" },
  ];
  return steps.filter((step) => step !== false);
}
