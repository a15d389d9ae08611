// How a version reaches the hosts: what becomes of live connections, who goes first, what happens when a host is lost.

import type { How } from "../../api/types";
import { wrongSelector } from "../../session/selector";
import { Field, Options } from "../../ui/Field";
import css from "./Policies.module.css";

const LIVE = [
  { id: "drain", name: "Drain", help: "Connections that lose their permission end after a grace period." },
  { id: "keep", name: "Keep", help: "They finish by themselves; new ones are judged anew." },
  { id: "cut", name: "Cut", help: "They end at once." },
] as const;
const FIRST = [
  { id: "all", name: "Everybody at once", help: "For a lab, or a change that only opens." },
  { id: "percent", name: "A share of the hosts", help: "Spread over identities; the rest follow when all of them are well for 20 s." },
  { id: "selector", name: "Those with labels", help: "As env=stage. The rest follow when all of them are well for 20 s." },
] as const;
const MOST_TRIAL_S = 3600;
const LEAST_TRIAL_S = 10;

export interface Chosen {
  live: How["live"];
  grace: string;
  first: (typeof FIRST)[number]["id"];
  percent: string;
  selector: string;
  /** Seconds; empty: none. */
  trial: string;
  /** As `10.0.0.5:22`, one after the other. */
  probes: string;
  isAccepted: boolean;
}

export const USUAL: Chosen = { live: "drain", grace: "60", first: "percent", percent: "10", selector: "", trial: "90", probes: "", isAccepted: false };

/** `db.example.com:5432 [2001:db8::1]:22` as hosts and ports; none: one of them is no host and port. */
export function probesIn(text: string): How["probes"] | null {
  const found = text.split(/[\s,]+/).filter(Boolean).map((word) => /^(\[[0-9A-Fa-f:.]+\]|[^:[\]]+):(\d{1,5})$/.exec(word));
  const probes = found.map((match) => ({ host: (match?.[1] ?? "").replace(/^\[|\]$/g, ""), port: Number(match?.[2]) }));
  return probes.every((one) => one.host !== "" && one.port >= 1 && one.port <= 65_535) ? probes : null;
}

/** As the API takes it. */
export const howOf = (chosen: Chosen): How => ({
  live: chosen.live, grace_s: Number(chosen.grace) || 0, trial_s: Number(chosen.trial) || null, probes: chosen.trial.trim() ? (probesIn(chosen.probes) ?? []) : [],
  canary: chosen.first === "selector" ? chosen.selector.trim() : "", canary_percent: chosen.first === "percent" ? Number(chosen.percent) || 0 : 0, accept_refused: chosen.isAccepted,
});

/** Why it cannot be gone on with so; empty: it can. */
export function wrongIn(chosen: Chosen): string {
  const grace = Number(chosen.grace);
  const percent = Number(chosen.percent);
  if (chosen.live === "drain" && !(Number.isInteger(grace) && grace >= 0 && grace <= 3600)) return "the grace period is 0 to 3600 whole seconds";
  if (chosen.first === "percent" && !(percent > 0 && percent <= 100)) return "the share is above 0 and at most 100 percent";
  if (wrongTrial(chosen.trial)) return wrongTrial(chosen.trial);
  if (chosen.trial.trim() !== "" && wrongProbes(chosen.probes)) return wrongProbes(chosen.probes);
  if (chosen.first !== "selector") return "";
  return chosen.selector.trim() === "" ? "name the labels of who goes first" : wrongSelector(chosen.selector.trim());
}

function wrongTrial(text: string): string {
  const trial = Number(text);
  return text.trim() === "" || (Number.isInteger(trial) && trial >= LEAST_TRIAL_S && trial <= MOST_TRIAL_S) ? "" : `the trial is ${LEAST_TRIAL_S} to ${MOST_TRIAL_S} whole seconds, or left empty`;
}

const wrongProbes = (text: string): string => (probesIn(text) ? "" : "each probe is a host and a port, as 10.0.0.5:22 or [2001:db8::1]:22");

export function HowFields({ chosen, onChange }: { chosen: Chosen; onChange: (chosen: Chosen) => void }) {
  const put = (change: Partial<Chosen>): void => onChange({ ...chosen, ...change });
  return (
    <div className={css.how}>
      <div className={css.choice}>
        <Options name="Live connections" values={LIVE} chosen={chosen.live} onChoose={(live) => put({ live })} />
        {chosen.live === "drain" && <Field name="Grace, seconds" inputMode="numeric" value={chosen.grace} onChange={(event) => put({ grace: event.target.value })} />}
      </div>
      <div className={css.choice}>
        <Options name="Who goes first" values={FIRST} chosen={chosen.first} onChoose={(first) => put({ first })} />
        {chosen.first === "percent" && <Field name="Percent of the hosts" inputMode="decimal" value={chosen.percent} onChange={(event) => put({ percent: event.target.value })} />}
        {chosen.first === "selector" && <Field name="Labels of those who go first" placeholder="env=stage" value={chosen.selector} onChange={(event) => put({ selector: event.target.value })} />}
        <Field name="Trial, seconds" inputMode="numeric" help="A host that does not confirm in time goes back by itself. Empty: no trial." wrong={wrongTrial(chosen.trial) || undefined} value={chosen.trial} onChange={(event) => put({ trial: event.target.value })} />
        {chosen.trial.trim() !== "" && <Field name="Probes" placeholder="10.0.0.5:22 db.example.com:5432" help="What each host must still reach by TCP at the end of its trial, beside the controller; else it goes back." wrong={wrongProbes(chosen.probes) || undefined} value={chosen.probes} onChange={(event) => put({ probes: event.target.value })} />}
      </div>
    </div>
  );
}
