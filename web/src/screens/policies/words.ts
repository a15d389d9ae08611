// What tests, findings and rules say, in sentences; counts by file. Nothing here asks or draws.

import type { Checked, Finding, Rule, TestOutcome } from "../../api/types";

export interface Tally {
  errors: number;
  warnings: number;
  hints: number;
}

export function tally(findings: readonly Finding[]): Tally {
  const of = (severity: Finding["severity"]): number => findings.filter((one) => one.severity === severity).length;
  return { errors: of("error"), warnings: of("warning"), hints: of("info") };
}

export const findingsOf = (checked: Checked | undefined, file: string): Finding[] => checked?.findings.filter((one) => one.where?.file === file) ?? [];
export const testsOf = (checked: Checked | undefined, file: string): TestOutcome[] => checked?.tests.filter((one) => one.file === file) ?? [];

const OF_TESTS = new Set(["test-failed", "test-unmatched"]);

/** Whether errors keep the policies from being read: then nothing is proven and nothing planned. */
export const isUnreadable = (checked: Checked | undefined): boolean =>
  checked?.findings.some((one) => one.severity === "error" && !OF_TESTS.has(one.code)) ?? false;

export const hasFailed = (test: TestOutcome): boolean => test.outcome === "failed" || test.outcome === "unmatched";

/** What fails comes first, then what is doubtful. */
const RANK: Record<TestOutcome["outcome"], number> = { failed: 0, unmatched: 1, warning: 2, proven: 3 };
export const worstFirst = (tests: readonly TestOutcome[]): TestOutcome[] => [...tests].sort((a, b) => RANK[a.outcome] - RANK[b.outcome]);

/** Why a test holds or not: the counterexample as a person would tell it. */
export function testStory(test: TestOutcome): string {
  const shown = test.counterexample;
  if (!shown) return test.outcome === "proven" ? `${test.expect === "blocked" ? "Nobody passes" : "All pass"}: proven over ${test.pairs} ${test.pairs === 1 ? "pair" : "pairs"}.` : `${sentence(test.message)}`;
  const connection = `${shown.source} → ${shown.destination} on ${shown.service}`;
  if (test.expect === "blocked") {
    const by = test.allowed_by.length ? ` by ${test.allowed_by.join(", ")}` : "";
    return test.outcome === "proven" ? `Proven over ${test.pairs} pairs.` : `${connection} passes${by}, and should not.`;
  }
  if (test.outcome === "proven") return `For one, ${connection} passes${test.allowed_by.length ? ` by ${test.allowed_by.join(", ")}` : ""}. Proven over ${test.pairs} ${test.pairs === 1 ? "pair" : "pairs"}.`;
  const near = test.nearest ? ` Nearest is ${test.nearest.rule}, which lacks ${test.nearest.missing.join(", ")}.` : "";
  return `${connection} is stopped (${REASONS[shown.reason] ?? shown.reason}), and should pass.${near}`;
}

const REASONS: Record<string, string> = { default: "no rule allows it", deny: "a rule denies it", forbid: "a rule forbids it", quarantine: "quarantine" };
const sentence = (text: string): string => (text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}.` : "");

/** A rule as one reads it: `web → api on tcp/8080`. */
export const ruleText = (rule: Pick<Rule, "sources" | "destinations" | "services">): string =>
  `${rule.sources.join(", ")} → ${rule.destinations.join(", ")}${rule.services.length ? ` on ${rule.services.join(", ")}` : ""}`;

/** What to do about a rule that lets more pass than is used; empty: nothing. */
export function adviceOn(rule: Rule, days: number): string {
  if (rule.action !== "allow") return "";
  if (rule.connections === 0) return `Not used in ${days} days: remove it, or give it an end with until.`;
  if (rule.utilisation !== null && rule.utilisation < 0.5) {
    return `${rule.sources_used} of ${rule.source_members} sources and ${rule.destinations_used} of ${rule.destination_members} destinations use it: name those.`;
  }
  return "";
}

/** Whether a rule belongs to the queue of what could be tightened. */
export const isSlack = (rule: Rule): boolean => rule.action === "allow" && (rule.connections === 0 || (rule.utilisation !== null && rule.utilisation < 0.5));
