// What a change would stop: of what was seen, and of what is connected now.

import type { Broken } from "../api/types";
import { Badge } from "../ui/Badge";
import { Note, Stat } from "../ui/Box";
import { count, plural, printable } from "../words";
import css from "./parts.module.css";

type Break = Broken & { about?: boolean };

export interface Traffic {
  sessions?: { in_use: number; cut: readonly { source: string; destination: string; service: string; owner?: string; source_owner?: string; rule?: string | null }[]; more: number } | null;
  impact?: { days: number; connections: number; broken: readonly Break[]; more: number; elsewhere?: number } | null;
}

const ownersOf = ({ owner, source_owner: source }: { owner?: string; source_owner?: string }): string =>
  [source && `from ${printable(source)}`, owner && `to ${printable(owner)}`].filter(Boolean).join(", ");

/** How many kinds of traffic stop: by what the change is about, and elsewhere, where it changes nothing. */
export function kindsOf({ impact }: Traffic): { about: number; elsewhere: number } {
  const elsewhere = impact?.elsewhere ?? 0;
  return { about: (impact?.broken.length ?? 0) + (impact?.more ?? 0) - elsewhere, elsewhere };
}

/** The lists alone; nothing where nothing stops. */
export function Stopped({ of }: { of: Traffic }) {
  const broken = of.impact?.broken ?? [];
  const [about, others] = [broken.filter((one) => one.about !== false), broken.filter((one) => one.about === false)];
  const { about: most, elsewhere } = kindsOf(of);
  return (
    <>
      {of.sessions && of.sessions.cut.length > 0 && (
        <ul className={css.boxes} tabIndex={0} aria-label="Connections in use that would be cut">
          {of.sessions.cut.map((one, index) => <li key={index}><Badge tone="bad" mark="✕">cuts</Badge><p>{printable(one.source)} → {printable(one.destination)} <code>{printable(one.service)}</code></p><span className="soft small nowrap">in use</span>{ownersOf(one) && <small>{ownersOf(one)}</small>}</li>)}
        </ul>
      )}
      {about.length > 0 && <Breaks of={about} label="Traffic that would stop" />}
      {most > about.length && <p className="soft small">and {count(most - about.length)} more kinds of traffic that would stop</p>}
      {elsewhere > 0 && (
        <details className={css.more}>
          <summary>{plural(elsewhere, "kind")} of traffic elsewhere <small>would stop once their hosts enforce, with this change and without it</small></summary>
          <Breaks of={others} label="Traffic elsewhere that would stop" />
          {elsewhere > others.length && <p className="soft small">The first {count(others.length)} are listed.</p>}
        </details>
      )}
    </>
  );
}

function Breaks({ of, label }: { of: readonly Break[]; label: string }) {
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
  const { about: kinds } = kindsOf(of);
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
