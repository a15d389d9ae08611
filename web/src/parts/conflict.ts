// Whether somebody was quicker, and what they did meanwhile.

import { asApiError } from "../api/errors";
import type { AuditEntry } from "../api/types";

const CLASHES = new Set(["plan-changed", "labels-changed", "version-conflict", "changed-meanwhile", "mode-changed"]);
/** What may change under a plan: policies in force, workloads, the inventory, ranges. What the controller does by itself is no one's. */
const KINDS = /^(policy\.(publish|approve|rollback)|workload\..*|inventory\..*|profile\.ranges|demo\..*)$/;
const SLACK_MS = 5000;
const MOST = 5;

export const isConflict = (error: unknown): boolean => error !== null && error !== undefined && CLASHES.has(asApiError(error).code);

/** Entries of the audit log since somebody looked, the latest first; the clocks here and there may differ a little. */
export const meanwhile = (entries: readonly AuditEntry[], since: number): AuditEntry[] =>
  entries.filter((one) => KINDS.test(one.action) && Date.parse(one.at) >= since - SLACK_MS).slice(0, MOST);
