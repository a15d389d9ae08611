// A rule as a sentence.

import { Icon } from "../../ui/Icon";
import { printable } from "../../words";
import css from "./Recommend.module.css";
import { partsOf, plainText } from "./rule";

export function Ends({ text }: { text: string }) {
  const parts = partsOf(text);
  if (!parts) return <pre className="mono">{printable(plainText(text)).replaceAll("\ufffd", "\n")}</pre>;
  return <p className={css.ends}><b>{printable(parts.from)}</b><Icon name="right" size={13} /><b>{printable(parts.to)}</b><code>{printable(parts.service)}</code></p>;
}

/** `2026-03-01`: evidence is counted in days of UTC. */
export const day = (time: string): string => time.slice(0, 10);

/** `2026-03-01 – 03-09`: from one day to another, the year once. */
export function days(first: string, last: string): string {
  const [a, b] = [day(first), day(last)];
  if (a === b) return a;
  return a.slice(0, 4) === b.slice(0, 4) ? `${a} – ${b.slice(5)}` : `${a} – ${b}`;
}
