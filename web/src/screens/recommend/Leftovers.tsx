// What no rule was made of: noise and scanners set aside, and what could not be put into a rule; each with what to do.

import { Badge } from "../../ui/Badge";
import { Card, Note } from "../../ui/Box";
import { count, plural, printable } from "../../words";
import type { Leftover, Recommended } from "./asking";
import { day } from "./Ends";
import css from "./Recommend.module.css";

export function Leftovers({ told }: { told: Recommended }) {
  if (told.set_aside.length + told.uncovered.length === 0) return <Note>Every connection that was seen has a rule, or one is proposed.</Note>;
  return (
    <>
      {told.uncovered.length > 0 && <Group title="No rule can be proposed" tone="warning" left={told.uncovered} />}
      {told.set_aside.length > 0 && <Group title="Noise and scanners, set aside" tone="unknown" left={told.set_aside} />}
    </>
  );
}

export function Group({ title, tone, left }: { title: string; tone: "warning" | "unknown"; left: readonly Leftover[] }) {
  return (
    <Card title={title} isFlush tools={<span className="soft small">{plural(left.reduce((sum, one) => sum + one.connections, 0), "connection")}</span>}>
      <ul className={css.left}>
        {left.map((one) => (
          <li key={one.reason}>
            <Badge tone={tone}>{one.reason}</Badge>
            <div>
              <p><b>{sentence(printable(one.why))}</b></p>
              <p className="soft">{sentence(printable(one.help))}</p>
              <ul className="mono">{one.examples.map((example, index) => <li key={index}>{printable(example).replace(" -> ", " → ")}</li>)}</ul>
            </div>
            <span className="number">{count(one.connections)}<small className="soft">{count(one.sources)} → {count(one.destinations)}</small><small className="soft">{day(one.last)}</small></span>
          </li>
        ))}
      </ul>
    </Card>
  );
}

/** What to mend before it is trusted; tests somebody wrote that would not hold. */
export function Findings({ told }: { told: Recommended }) {
  const all = [...told.broken, ...told.findings];
  if (all.length === 0) return null;
  return (
    <Card title="Look at first">
      <ul className={css.findings}>
        {all.map((one, index) => (
          <li key={index}>
            <p><Badge tone={index < told.broken.length ? "bad" : "warning"} mark="!">{index < told.broken.length ? "test" : one.code}</Badge></p>
            <p>{sentence(printable(one.message))}</p>
            {one.help && <p className="soft">{sentence(printable(one.help))}</p>}
          </li>
        ))}
      </ul>
    </Card>
  );
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
