// What a change would stop: of what was seen, and of what is connected now.

import type { Broken } from "../api/types";
import { Badge } from "../ui/Badge";
import { Note, Stat } from "../ui/Box";
import { count, plural, printable } from "../words";
import css from "./parts.module.css";

export interface Traffic {
  sessions?: { in_use: number; cut: readonly { source: string; destination: string; service: string; owner?: string; source_owner?: string; rule?: string | null }[]; more: number } | null;
  impact?: { days: number; connections: number; broken: readonly Broken[]; more: number; anyway: number } | null;
}

const ownersOf = ({ owner, source_owner: source }: { owner?: string; source_owner?: string }): string =>
  [source && `from ${printable(source)}`, owner && `to ${printable(owner)}`].filter(Boolean).join(", ");

/** How many kinds of traffic stop: by this change, and with it and without it. */
export function kindsOf({ impact }: Traffic): { anew: number; anyway: number } {
  const anyway = impact?.anyway ?? 0;
  return { anew: (impact?.broken.length ?? 0) + (impact?.more ?? 0) - anyway, anyway };
}

/** The lists alone; nothing where nothing stops. */
export function Stopped({ of }: { of: Traffic }) {
  const broken = of.impact?.broken ?? [];
  const [ours, others] = [broken.filter((one) => one.is_new), broken.filter((one) => !one.is_new)];
  const { anew, anyway } = kindsOf(of);
  return (
    <>
      {of.sessions && of.sessions.cut.length > 0 && (
        <ul className={css.boxes} tabIndex={0} aria-label="Connections in use that would be cut">
          {of.sessions.cut.map((one, index) => <li key={index}><Badge tone="bad" mark="✕">cuts</Badge><p>{printable(one.source)} → {printable(one.destination)} <code>{printable(one.service)}</code></p><span className="soft small nowrap">in use</span>{ownersOf(one) && <small>{ownersOf(one)}</small>}</li>)}
        </ul>
      )}
      {ours.length > 0 && <Breaks of={ours} label="Traffic that would stop" />}
      {anew > ours.length && <p className="soft small">and {count(anew - ours.length)} more kinds of traffic that would stop</p>}
      {anyway > 0 && (
        <details className={css.more}>
          <summary>{plural(anyway, "kind")} of traffic anyway <small>would stop once their hosts enforce, with this change and without it</small></summary>
          {others.length > 0 && <Breaks of={others} label="Traffic that would stop anyway" />}
          {anyway > others.length && <p className="soft small">{others.length > 0 ? `The first ${count(others.length)} are listed.` : "Those that this change breaks are listed first; these are not."}</p>}
        </details>
      )}
    </>
  );
}

function Breaks({ of, label }: { of: readonly Broken[]; label: string }) {
  return (
    <ul className={css.boxes} tabIndex={0} aria-label={label}>
      {of.map((one, index) => (
        <li key={index}>
          <Badge tone="bad" mark="✕">breaks</Badge><p>{printable(one.source)} → {printable(one.destination)} <code>{printable(one.service)}</code></p>
          <span className="soft small nowrap">{count(one.connections)} seen</span><small>{printable(one.example)}{one.hint && ` · ${printable(one.hint)}`}</small>
        </li>
      ))}
    </ul>
  );
}

/** With how much was looked at. */
export function Stops({ of }: { of: Traffic & { changed: number } }) {
  const { anew: kinds } = kindsOf(of);
  const cut = (of.sessions?.cut.length ?? 0) + (of.sessions?.more ?? 0);
  const seen = of.impact?.connections ?? 0;
  return (
    <>
      <div className={css.sums}>
        <Stat name="Changes" value={count(of.changed)} hint={of.changed === 1 ? "host" : "hosts"} />
        <Stat name="Stops" value={count(kinds)} hint={`kinds of traffic of ${plural(of.impact?.days ?? 0, "day")}`} tone={kinds ? "bad" : undefined} />
        <Stat name="Cuts" value={count(cut)} hint={`of ${plural(of.sessions?.in_use ?? 0, "kind")} of connection in use`} tone={cut ? "bad" : undefined} />
      </div>
      {kinds + cut === 0 && <Note>{seen ? `Nothing but noise stops, of ${plural(seen, "connection")} that were seen.` : "No traffic was seen: what would stop is not known."}</Note>}
      <Stopped of={of} />
    </>
  );
}
