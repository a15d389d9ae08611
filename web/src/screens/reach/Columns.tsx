// Columns of what is reached, a hop each, with lines from where it is reached. The list is the picture: each box is a button.

import { useMemo } from "react";
import { Badge, type Tone } from "../../ui/Badge";
import { Icon } from "../../ui/Icon";
import { count, plural, printable } from "../../words";
import type { BlastView } from "./asking";
import { type Column, type Difference, type Item, linksOf, roleOf } from "./columns";
import css from "./Reach.module.css";

const BOX = 72;
const GAP = 10;
const HEAD = 66;
/** Of a column's width: the box, the rest is for lines. */
const SHARE = 0.8;
const UNIT = 100;

const DIFFERENCES: Record<Exclude<Difference, "same"> | "mixed", { tone: Tone; mark: string; word: string }> = {
  gained: { tone: "warning", mark: "+", word: "new" }, lost: { tone: "plain", mark: "−", word: "no more" },
  nearer: { tone: "warning", mark: "←", word: "nearer" }, farther: { tone: "good", mark: "→", word: "farther" }, mixed: { tone: "accent", mark: "±", word: "changes" },
};

interface Props {
  view: BlastView;
  columns: readonly Column[];
  opened: string;
  unfolded: ReadonlySet<string>;
  onOpen: (who: string) => void;
  onFold: (application: string) => void;
}

const topOf = (index: number): number => HEAD + index * (BOX + GAP);

export function Columns({ view, columns, opened, unfolded, onOpen, onFold }: Props) {
  const rows = Math.max(1, ...columns.map((column) => column.items.length));
  const height = topOf(rows);
  const at = useMemo(() => new Map(columns.flatMap((column, x) => column.items.map((item, y): [string, { x: number; y: number }] => [item.id, { x: x + 1, y: topOf(y) + BOX / 2 }]))), [columns]);
  const links = useMemo(() => linksOf(columns), [columns]);
  const wide = columns.length + 1;
  const origin = topOf(0) + BOX / 2;
  return (
    <div className={css.scroll} role="region" aria-label="What is reached, hop by hop" tabIndex={0}>
      <div className={css.columns} style={{ height, gridTemplateColumns: `repeat(${wide}, minmax(210px, 1fr))`, minWidth: wide * 210 }}>
        <svg className={css.lines} viewBox={`0 0 ${wide * UNIT} ${height}`} preserveAspectRatio="none" aria-hidden="true">
          {links.map((link) => {
            const to = at.get(link.to);
            const from = link.from ? at.get(link.from) : { x: 0, y: origin };
            if (!to || !from) return null;
            const [x1, x2] = [(from.x + SHARE) * UNIT, to.x * UNIT];
            const bend = (x2 - x1) / 2;
            return <path key={`${link.from}|${link.to}`} d={`M${x1} ${from.y}C${x1 + bend} ${from.y} ${x2 - bend} ${to.y} ${x2} ${to.y}`} className={css[`line-${link.difference}`]} />;
          })}
        </svg>
        <section aria-label="The beginning">
          <header className={css.hop}><b>{view.way === "from" ? "Compromised" : "Critical"}</b><span className="soft">{plural(view.workloads, "workload")}</span></header>
          <div className={css.origin}><Icon name={view.way === "from" ? "warn" : "shield"} size={18} /><b>{printable(view.of)}</b></div>
        </section>
        {columns.map((column) => (
          <section key={column.hop} aria-label={`Hop ${column.hop}`}>
            <header className={css.hop}>
              <b>Hop {column.hop}</b>
              <span className="soft">{column.workloads ? `${plural(column.workloads, "workload")} in ${plural(column.groups, "group")}` : column.groups ? "addresses only" : "nobody any more"}</span>
              {column.jewels.length > 0 && <span className={css.jewel} title={column.jewels.join(", ")}>◆ {plural(column.jewels.length, "crown jewel")}</span>}
            </header>
            <ul>{column.items.map((item) => <li key={item.id}><Box item={item} isOpened={item.groups.some((one) => one.who === opened)} isUnfolded={unfolded.has(item.application)} onOpen={onOpen} onFold={onFold} /></li>)}</ul>
          </section>
        ))}
      </div>
    </div>
  );
}

function Box({ item, isOpened, isUnfolded, onOpen, onFold }: { item: Item; isOpened: boolean; isUnfolded: boolean; onOpen: (who: string) => void; onFold: (application: string) => void }) {
  const [first] = item.groups;
  if (!first) return null;
  const isFolded = item.groups.length > 1;
  const role = isFolded ? "" : roleOf(first.who);
  const services = [...new Set(item.groups.flatMap((one) => one.services))];
  const mark = item.difference === "same" ? null : DIFFERENCES[item.difference];
  return (
    <button type="button" className={css.box} data-difference={item.difference} data-jewel={item.jewels.length > 0} aria-pressed={isOpened} title={printable(isFolded ? item.application : first.who)} onClick={() => (isFolded ? onFold(item.application) : onOpen(first.who))}>
      <span className={css.name}>
        {item.jewels.length > 0 && <span className={css.jewel} title={`Crown jewel: ${item.jewels.join(", ")}`}>◆<span className="hidden"> crown jewel </span></span>}
        <b>{printable(role || item.application)}</b>
        {mark && <Badge tone={mark.tone} mark={mark.mark}>{mark.word}</Badge>}
      </span>
      <span className={css.of}>{isFolded ? `${plural(item.groups.length, "group")}: unfold` : role ? printable(item.application) : isUnfolded ? "" : first.isBare ? (first.example ? `such as ${first.example}` : "nobody of ours") : ""}</span>
      <span className={css.what}><span>{first.isBare ? "" : plural(item.workloads, "workload")}</span><code>{services.slice(0, 2).map(printable).join(" ")}{services.length > 2 && ` +${count(services.length - 2)}`}</code></span>
    </button>
  );
}
