import { expect, test } from "vitest";
import { ApiError } from "../api/errors";
import type { AuditEntry } from "../api/types";
import { isConflict, meanwhile } from "./conflict";

const entry = (seq: number, action: string, at: string): AuditEntry => ({ seq, action, at, actor: "ann", subject: "x", details: "{}", previous: "", hash: "" });

test("a conflict is told by its code", () => {
  expect(isConflict(new ApiError(409, "plan-changed", ""))).toBe(true);
  expect(isConflict(new ApiError(412, "changed-meanwhile", ""))).toBe(true);
  expect(isConflict(new ApiError(403, "outside-scope", ""))).toBe(false);
  expect(isConflict(null)).toBe(false);
});

test("what others did since one looked is told, the latest first", () => {
  const entries = [entry(4, "workload.labels", "2026-01-01T10:05:00Z"), entry(3, "session.open", "2026-01-01T10:04:00Z"), entry(2, "policy.publish", "2026-01-01T10:01:00Z"), entry(1, "policy.publish", "2026-01-01T08:00:00Z")];
  expect(meanwhile(entries, Date.parse("2026-01-01T10:00:00Z")).map((one) => one.seq)).toEqual([4, 2]);
});
