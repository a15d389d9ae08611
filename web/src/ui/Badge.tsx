// Small words in a box. Every meaning has a mark or a border of its own beside its colour.

import type { ReactNode } from "react";
import type { Alert, HostState, Mode, ModeName, Severity, Verdict } from "../api/types";
import { printable } from "../words";
import css from "./Badge.module.css";

export type Tone = "plain" | "good" | "warning" | "bad" | "accent" | "unknown" | "hatched";

export function Badge({ tone = "plain", mark, title, children }: { tone?: Tone; mark?: string; title?: string; children: ReactNode }) {
  return (
    <span className={`${css.badge} ${tone === "plain" ? "" : css[tone]}`} title={title}>
      {mark && <span className={css.mark} aria-hidden="true">{mark}</span>}
      {children}
    </span>
  );
}

const VERDICTS: Record<Verdict, { word: string; tone: Tone; mark: string; help: string }> = {
  allowed: { word: "allowed", tone: "good", mark: "✓", help: "A rule allows it." },
  "would-block": { word: "would block", tone: "warning", mark: "!", help: "It passes today and stops once its end enforces." },
  blocked: { word: "blocked", tone: "bad", mark: "✕", help: "Policy stops it, at an end where an agent of ours is." },
  unheld: { word: "blocked on paper", tone: "hatched", mark: "⊘", help: "Policy stops it, but no agent of ours is at an end that would: it passes." },
  "no-policy": { word: "not covered", tone: "unknown", mark: "?", help: "Nothing of ours holds it, or no rule speaks of it." },
};

export function VerdictBadge({ verdict }: { verdict: string }) {
  const told = VERDICTS[verdict as Verdict] ?? VERDICTS["no-policy"];
  return <Badge tone={told.tone} mark={told.mark} title={told.help}>{told.word}</Badge>;
}

const STATES: Record<HostState, { tone: Tone; mark: string; help: string }> = {
  realised: { tone: "good", mark: "✓", help: "Read back from the kernel: it holds what it was given." },
  pending: { tone: "accent", mark: "…", help: "Told, not read back yet." },
  drifted: { tone: "bad", mark: "≠", help: "The kernel holds something else than it was given." },
  refused: { tone: "bad", mark: "✕", help: "It cannot express what it was given, and keeps what it had." },
  reverted: { tone: "bad", mark: "↩", help: "What it was told last failed its trial there; it keeps what it had." },
  unreachable: { tone: "warning", mark: "!", help: "Nothing is heard of it; it keeps the policy it has." },
  unmanaged: { tone: "unknown", mark: "○", help: "No agent of ours runs there; its peers enforce for it." },
};

export const stateHelp = (state: HostState): string => STATES[state].help;

export function StateBadge({ state }: { state: HostState }) {
  const told = STATES[state];
  return <Badge tone={told.tone} mark={told.mark} title={told.help}>{state}</Badge>;
}

const MODE_TONE: Record<ModeName, Tone> = { observe: "unknown", selective: "accent", enforce: "good" };
export const MODE_HELP: Record<ModeName, string> = {
  observe: "Nothing is dropped; what would be is told.",
  selective: "Forbid and deny rules bite; the rest passes and is told.",
  enforce: "What no rule allows is dropped.",
};

export function ModeBadge({ mode }: { mode: Mode }) {
  const { in: inward, out: outward } = mode;
  if (inward === outward) return <Badge tone={MODE_TONE[inward]} title={MODE_HELP[inward]}>{inward}</Badge>;
  return (
    <Badge tone={MODE_TONE[inward]} title={`Inbound: ${MODE_HELP[inward]} Outbound: ${MODE_HELP[outward]}`}>
      {inward} in · {outward} out
    </Badge>
  );
}

const SEVERITY: Record<Severity, { tone: Tone; mark: string }> = {
  critical: { tone: "bad", mark: "▲▲" },
  error: { tone: "bad", mark: "▲" },
  warning: { tone: "warning", mark: "!" },
  info: { tone: "plain", mark: "i" },
};

export function SeverityBadge({ severity }: { severity: Severity }) {
  return <Badge {...SEVERITY[severity]}>{severity}</Badge>;
}

export function AlertStateBadge({ state }: { state: Alert["state"] }) {
  const tone: Tone = state === "open" ? "accent" : state === "acknowledged" ? "plain" : "unknown";
  return <Badge tone={tone}>{state}</Badge>;
}

/** Labels, each key before its value; on one line that fades out where there is no room. */
export function Labels({ labels, isLine = false }: { labels: Record<string, string>; isLine?: boolean }) {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  if (pairs.length === 0) return <span className="soft">no labels</span>;
  const text = pairs.map(([key, value]) => `${key}=${value}`).join(", ");
  return (
    <span className={`${css.chips} ${isLine ? css.line : ""}`} title={isLine ? printable(text) : undefined}>
      {pairs.map(([key, value]) => (
        <span key={key} className={css.chip}><span>{printable(key)}</span><b>{printable(value)}</b></span>
      ))}
    </span>
  );
}
