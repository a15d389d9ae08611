// Which rules are accepted, and what they cover together: the answer's own numbers, added up here as boxes are ticked.

import type { Confidence, Recommended, RuleEvidence } from "./asking";

/** All rules but some, or none but some: short enough for an address either way. */
export interface Choice {
  isAll: boolean;
  but: ReadonlySet<string>;
}

export const accepts = (choice: Choice, rule: string): boolean => choice.isAll !== choice.but.has(rule);

export function flipped(choice: Choice, rule: string): Choice {
  const but = new Set(choice.but);
  if (!but.delete(rule)) but.add(rule);
  return { isAll: choice.isAll, but };
}

export const choiceOf = (search: URLSearchParams): Choice =>
  ({ isAll: search.get("none") === null, but: new Set((search.get("but") ?? "").split(",").filter(Boolean)) });

/** As the address says it. */
export const choiceText = ({ isAll, but }: Choice): { none: string; but: string } => ({ none: isAll ? "" : "1", but: [...but].sort().join(",") });

export interface Covered {
  /** Connections that call for a rule. */
  wanted: number;
  inForce: number;
  accepted: number;
  rejected: number;
  /** No rule can be recommended for them. */
  left: number;
  rules: number;
}

export function coveredBy(told: Recommended, choice: Choice): Covered {
  const { learned, already_allowed: inForce, uncovered: left } = told.coverage;
  const chosen = told.rules.filter((one) => accepts(choice, one.rule));
  const accepted = chosen.reduce((sum, one) => sum + one.evidence.connections, 0);
  return { wanted: learned + inForce + left, inForce, accepted, rejected: Math.max(0, learned - accepted), left, rules: chosen.length };
}

/** The rules that are accepted, those that cover most first; null: all of them. */
export function acceptedOf(told: Recommended, choice: Choice): string[] | null {
  const rules = byWeight(told.rules).map((one) => one.rule).filter((rule) => accepts(choice, rule));
  return rules.length === told.rules.length ? null : rules;
}

/** Those that cover most first. */
export const byWeight = (rules: readonly RuleEvidence[]): RuleEvidence[] =>
  [...rules].sort((a, b) => b.evidence.connections - a.evidence.connections || (a.rule < b.rule ? -1 : 1));

export interface Application {
  selector: string;
  /** Connections that policy can hold. */
  connections: number;
  allowed: number;
  breaks: number;
  rules: number | null;
  confidence: Confidence | null;
}

interface Counted {
  application: string;
  allowed: number;
  uncontrolled: number;
  would_block: number;
  blocked: number;
}

const plain = (selector: string): string => selector.split(",").map((part) => part.trim()).sort().join(",");

/** Applications with what is recommended for each, where that is known already. Those with most to gain first. */
export function applicationsOf(counted: readonly Counted[], told: Recommended | undefined): Application[] {
  const policies = new Map(Object.entries(told?.scopes ?? {}).map(([policy, scope]) => [plain(scope), policy]));
  const rules = new Map<string, number>();
  for (const one of told?.rules ?? []) rules.set(one.policy, (rules.get(one.policy) ?? 0) + 1);
  const found = counted.map((one): Application => {
    const policy = policies.get(plain(one.application));
    return {
      selector: one.application,
      connections: one.allowed + one.uncontrolled + one.would_block + one.blocked,
      allowed: one.allowed,
      breaks: one.would_block + one.blocked,
      rules: told ? (rules.get(policy ?? "") ?? 0) : null,
      confidence: told?.by_policy.find((each) => each.subject === policy) ?? null,
    };
  });
  return found.sort((a, b) => b.breaks - a.breaks || b.connections - a.connections || (a.selector < b.selector ? -1 : 1));
}
