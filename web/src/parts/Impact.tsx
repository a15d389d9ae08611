// What a change would open, close and break, before it is made.

import type { Box, Finding } from "../api/types";
import { Badge } from "../ui/Badge";
import { Note, Stat } from "../ui/Box";
import { count, plural, printable } from "../words";
import css from "./parts.module.css";
import { kindsOf, Stopped, type Traffic } from "./Stops";

interface Planned extends Traffic {
  opened: number;
  closed: number;
  boxes: readonly Box[];
  more: number;
  findings: readonly Finding[];
}

const NOTHING = "Nothing opens and nothing closes: no rule tells these labels from those before.";

export function Impact({ of, nothing = NOTHING, isTraffic = true }: { of: Planned; nothing?: string; isTraffic?: boolean }) {
  const { anew: breaks } = kindsOf(of);
  return (
    <>
      <div className={css.sums}>
        <Stat name="Opens" value={count(of.opened)} hint="pairs of workloads" tone={of.opened ? "warning" : undefined} />
        <Stat name="Closes" value={count(of.closed)} hint="pairs of workloads" />
        {isTraffic && <Stat name="Breaks" value={count(breaks)} hint={of.impact ? `kinds of traffic of ${plural(of.impact.days, "day")}, once all enforce` : "no traffic was judged"} tone={breaks ? "bad" : undefined} />}
      </div>
      {of.opened + of.closed + of.findings.length === 0 && <Note>{nothing}</Note>}
      {of.findings.length > 0 && (
        <ul className={css.boxes} tabIndex={0} aria-label="Tests that would fail">
          {of.findings.map((one, index) => <li key={index}><Badge tone="bad" mark="✕">test</Badge><p>{printable(one.message)}</p><span /><small>{printable(one.help)}</small></li>)}
        </ul>
      )}
      <Stopped of={of} />
      {of.boxes.length > 0 && (
        <ul className={css.boxes} tabIndex={0} aria-label="What opens and closes">
          {of.boxes.map((box, index) => (
            <li key={index}>
              {box.change === "opened" ? <Badge tone="warning" mark="+">opens</Badge> : <Badge mark="−">closes</Badge>}
              <p>{printable(box.sources)} → {printable(box.destinations)} <code>{printable(box.services.join(", "))}</code></p>
              <span className="soft small nowrap">{plural(box.workload_pairs, "pair")}</span>
              <small>like {printable(box.example.source)} → {printable(box.example.destination)}{box.example.rule && ` by ${printable(box.example.rule)}`}</small>
            </li>
          ))}
        </ul>
      )}
      {of.more > 0 && <p className="soft small">and {count(of.more)} more</p>}
    </>
  );
}
