// Alerts as people go through them: what is in each, and how they stand together.

import type { Alert, Severity } from "../../api/types";

export const SEVERITIES: readonly Severity[] = ["critical", "error", "warning", "info"];
export type By = "severity" | "kind" | "subject";

/** What an alert's details say of a connection and of who looked at it. */
export interface Case {
  rule: string;
  source: string;
  sourceIdentity: string;
  sourceAddress: string;
  destination: string;
  destinationIdentity: string;
  destinationAddress: string;
  service: string;
  verdict: string;
  where: string;
  handledBy: string;
  why: string;
  partOf: string;
  examples: string[];
  commands: string[];
  reopened: number;
}

export function caseOf(alert: Alert): Case {
  const read = parsed(alert.details);
  const word = (key: string): string => (typeof read[key] === "string" ? read[key] : "");
  const words = (key: string): string[] => (Array.isArray(read[key]) ? read[key].filter((one) => typeof one === "string") : []);
  return {
    rule: word("rule"), service: word("service"), verdict: word("verdict"), where: word("where"),
    source: word("source"), sourceIdentity: word("source_identity"), sourceAddress: word("source_address"),
    destination: word("destination"), destinationIdentity: word("destination_identity"), destinationAddress: word("destination_address"),
    handledBy: word("handled_by"), why: word("why"), partOf: word("part_of"),
    examples: words("examples"), commands: words("commands"), reopened: typeof read.reopened === "number" ? read.reopened : 0,
  };
}

function parsed(details: string): Record<string, unknown> {
  try {
    const read: unknown = JSON.parse(details);
    return typeof read === "object" && read !== null ? (read as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Names that may be workloads to isolate, who began it first. */
export function suspects(alert: Alert): string[] {
  const told = caseOf(alert);
  return [...new Set([told.source, told.destination, alert.subject, told.where].filter((name) => name !== ""))];
}

export interface Containment<T> {
  /** Whom to isolate: who began it, or whom it is about where nobody did. */
  first: T | undefined;
  /** Others that can be isolated: the attacked among them. */
  others: T[];
  /** Who began it and is no workload: nothing of ours can isolate it; empty: nobody. */
  outsider: string;
}

/** The attacked is never offered in place of who attacked. */
export function containmentOf<T extends { name: string; is_quarantined: boolean }>(alert: Alert, found: readonly T[]): Containment<T> {
  const { source } = caseOf(alert);
  const free = found.filter((one) => !one.is_quarantined);
  const first = source ? free.find((one) => one.name === source) : free[0];
  const outsider = source && !found.some((one) => one.name === source) ? source : "";
  return { first, others: free.filter((one) => one !== first), outsider };
}

export interface Group {
  name: string;
  worst: Severity;
  alerts: Alert[];
}

/** Alerts in groups, the group with the worst and latest first; within, the same. */
export function grouped(alerts: readonly Alert[], by: By): Group[] {
  const members = new Map<string, Alert[]>();
  const inOrder = [...alerts].sort((a, b) => rank(a) - rank(b) || (a.last < b.last ? 1 : a.last > b.last ? -1 : 0));
  for (const alert of inOrder) {
    const name = by === "subject" ? alert.subject || "the estate" : alert[by];
    members.set(name, [...(members.get(name) ?? []), alert]);
  }
  return [...members].map(([name, own]) => ({ name, worst: own[0]?.severity ?? "info", alerts: own }));
}

const rank = (alert: Alert): number => SEVERITIES.indexOf(alert.severity);
