import { describe, expect, it } from "vitest";
import type { Rule, TestOutcome } from "../../api/types";
import { counts, folded, lines } from "./lines";
import { TEMPLATES, wrongName } from "./templates";
import { adviceOn, isSlack, testStory, worstFirst } from "./words";

const test = (told: Partial<TestOutcome>): TestOutcome => ({ policy: "shop", name: "web -> db", file: "shop.yaml", line: 1, expect: "blocked", outcome: "proven", pairs: 3, violations: 0, message: "", counterexample: null, allowed_by: [], nearest: null, ...told });
const shown = { source: "web-1", destination: "db-1", service: "tcp/22", verdict: "allowed", reason: "allow", rule: "shop/x", file: null, line: null, ends: [], unless: [] };
const rule = (told: Partial<Rule>): Rule => ({ rule: "shop/x", policy: "shop", name: "x", action: "allow", sources: ["web"], destinations: ["db"], services: ["tcp/1"], because: "", file: "shop.yaml", line: 3, until: "", connections: 0, rows: 0, last: null, source_members: 4, destination_members: 2, sources_used: 1, destinations_used: 1, utilisation: null, ...told });

describe("a test in words", () => {
  it("names who passes and by which rule", () => {
    expect(testStory(test({ outcome: "failed", counterexample: shown, allowed_by: ["shop/x"] }))).toBe("web-1 → db-1 on tcp/22 passes by shop/x, and should not.");
  });
  it("names what the nearest rule lacks", () => {
    const near = { rule: "shop/q", file: "", line: 1, missing: ["on tcp/22"] };
    expect(testStory(test({ expect: "allowed", outcome: "failed", counterexample: { ...shown, reason: "default" }, nearest: near }))).toBe(
      "web-1 → db-1 on tcp/22 is stopped (no rule allows it), and should pass. Nearest is shop/q, which lacks on tcp/22.",
    );
  });
  it("says what picks nobody, and what is proven over how much", () => {
    expect(testStory(test({ outcome: "unmatched", message: "`role=gone` picks nobody" }))).toBe("`role=gone` picks nobody.");
    expect(testStory(test({}))).toBe("Nobody passes: proven over 3 pairs.");
  });
  it("comes before those that hold, where it fails", () => {
    expect(worstFirst([test({}), test({ outcome: "warning" }), test({ outcome: "failed" })]).map((one) => one.outcome)).toEqual(["failed", "warning", "proven"]);
  });
});

describe("rules that could be tightened", () => {
  it("are allows that nobody or few use, never a deny", () => {
    expect([rule({}), rule({ connections: 5, utilisation: 0.2 }), rule({ connections: 5, utilisation: 0.9 }), rule({ action: "deny" })].map(isSlack)).toEqual([true, true, false, false]);
    expect(adviceOn(rule({}), 30)).toContain("30 days");
    expect(adviceOn(rule({ connections: 5, utilisation: 0.3 }), 30)).toContain("1 of 4 sources");
  });
});

describe("lines", () => {
  it("are told as added, removed and same, far ones folded", () => {
    const before = Array.from({ length: 20 }, (_, n) => `${n}\n`).join("");
    const all = lines(before, before.replace("10\n", "ten\n"));
    expect(counts(all)).toEqual({ added: 1, removed: 1 });
    const told = folded(all);
    expect(told[0]).toEqual({ change: "same", text: "⋯ 7 lines" });
    expect(told).toHaveLength(1 + 3 + 2 + 3 + 1);
  });
});

it("a new policy has a name of its own that the language takes", () => {
  expect(wrongName("shop-prod", [])).toBe("");
  expect(wrongName("Shop", [])).not.toBe("");
  expect(wrongName("shop", ["shop.yaml"])).not.toBe("");
  for (const one of TEMPLATES) expect(one.text({ name: "shop", owner: "team", scope: "app=shop,env=prod" })).toMatch(/^policy: shop\nowner: team\n/);
});
