import { expect, test } from "vitest";
import type { Workload } from "../../api/types";
import { isWanted, type Wanted } from "./wanted";

const NOW = Date.parse("2026-03-01T12:00:00Z");
const one = (change: Partial<Workload>): Workload => ({
  uuid: "u", name: "Web-1", labels: {}, kind: "host", origin: "agent", mode: { in: "enforce", out: "observe" }, addresses: ["10.0.0.7"], spiffe: null, state: "realised",
  problems: [], seen: "2026-03-01T11:59:30Z", policy_version: 1, digest: "", agent: "", is_quarantined: false, forwards: false, disabled_until: null, refused: [], ...change,
});
const asked = (change: Partial<Wanted>): Wanted => ({ text: "", state: "", mode: "", heard: "", ...change });

test("by name or address, state, mode of either direction", () => {
  expect(isWanted(one({}), asked({}), NOW)).toBe(true);
  for (const change of [{ text: "web" }, { text: "0.0.7" }, { state: "realised" }, { mode: "enforce" }, { mode: "out-observe" }]) expect(isWanted(one({}), asked(change), NOW)).toBe(true);
  for (const change of [{ text: "db" }, { state: "drifted" }, { state: "trouble" }, { mode: "selective" }, { mode: "observe" }, { mode: "out-enforce" }]) expect(isWanted(one({}), asked(change), NOW)).toBe(false);
  for (const state of ["drifted", "refused", "reverted", "unreachable"] as const) expect(isWanted(one({ state }), asked({ state: "trouble" }), NOW)).toBe(true);
  expect(isWanted(one({ state: "unmanaged" }), asked({ mode: "observe" }), NOW)).toBe(false);
});

test("by when it was last heard; who has no agent cannot be", () => {
  const ago = (ms: number) => one({ seen: new Date(NOW - ms).toISOString() });
  expect(isWanted(ago(60_000), asked({ heard: "5m" }), NOW)).toBe(true);
  expect(isWanted(ago(600_000), asked({ heard: "5m" }), NOW)).toBe(false);
  expect(isWanted(ago(7_200_000), asked({ heard: "not-1h" }), NOW)).toBe(true);
  expect(isWanted(ago(7_200_000), asked({ heard: "not-1d" }), NOW)).toBe(false);
  expect(isWanted(one({ seen: null }), asked({ heard: "not-7d" }), NOW)).toBe(true);
  expect(isWanted(one({ seen: null }), asked({ heard: "never" }), NOW)).toBe(true);
  expect(isWanted(one({ seen: null, state: "unmanaged" }), asked({ heard: "never" }), NOW)).toBe(false);
});
