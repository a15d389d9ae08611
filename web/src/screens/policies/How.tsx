// How a version reaches the hosts: what becomes of live connections, who goes first, what happens when a host is lost.

import type { How } from "../../api/types";
import { wrongSelector } from "../../session/selector";
import { Field, Options, Select } from "../../ui/Field";
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
const TRIALS = [["90", "90 s"], ["300", "5 min"], ["900", "15 min"], ["0", "No trial"]] as const;

export interface Chosen {
  live: How["live"];
  grace: string;
  first: (typeof FIRST)[number]["id"];
  percent: string;
  selector: string;
  trial: string;
  isAccepted: boolean;
}

export const USUAL: Chosen = { live: "drain", grace: "60", first: "percent", percent: "10", selector: "", trial: "90", isAccepted: false };

/** As the API takes it. */
export const howOf = (chosen: Chosen): How => ({
  live: chosen.live, grace_s: Number(chosen.grace) || 0, trial_s: Number(chosen.trial) || null, probes: [],
  canary: chosen.first === "selector" ? chosen.selector.trim() : "", canary_percent: chosen.first === "percent" ? Number(chosen.percent) || 0 : 0, accept_refused: chosen.isAccepted,
});

/** Why it cannot be gone on with so; empty: it can. */
export function wrongIn(chosen: Chosen): string {
  const grace = Number(chosen.grace);
  const percent = Number(chosen.percent);
  if (chosen.live === "drain" && !(Number.isInteger(grace) && grace >= 0 && grace <= 3600)) return "the grace period is 0 to 3600 whole seconds";
  if (chosen.first === "percent" && !(percent > 0 && percent <= 100)) return "the share is above 0 and at most 100 percent";
  if (chosen.first !== "selector") return "";
  return chosen.selector.trim() === "" ? "name the labels of who goes first" : wrongSelector(chosen.selector.trim());
}

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
        <Select name="A host that does not confirm goes back by itself after" values={TRIALS} value={chosen.trial} onChange={(event) => put({ trial: event.target.value })} />
      </div>
    </div>
  );
}
