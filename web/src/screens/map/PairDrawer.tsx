// What goes between two segments, or between whatever a selector or a word names.

import { useMemo } from "react";
import { VerdictBadge } from "../../ui/Badge";
import { ErrorBox, Loading } from "../../ui/Box";
import { Drawer, Section } from "../../ui/Over";
import { useNow } from "../../ui/useNow";
import { ago, count, plural, printable } from "../../words";
import type { FlowRow, Pen, Question } from "./asking";
import type { Open } from "./chosen";
import { firstOf, flowId, useFlows } from "./FlowTable";
import css from "./Map.module.css";

interface Props {
  open: Open;
  question: Question;
  draft: Pen | null;
  onOpen: (from: string, to: string) => void;
  onClose: () => void;
}

export function PairDrawer({ open, question, draft, onOpen, onClose }: Props) {
  const found = useFlows(question, draft, firstOf(draft), { source: open.from, destination: open.to });
  const now = useNow();
  const rows = useMemo(() => found.data?.pages.flatMap((page) => page.rows) ?? [], [found.data]);
  const first = found.data?.pages[0];
  return (
    <Drawer title={<>{printable(open.from)} <span className="soft">→</span> {printable(open.to)}</>} about={first && <span className="soft">{plural(first.connections, "connection")} of {plural(first.total, "flow")}</span>} onClose={onClose}>
      {found.error ? <ErrorBox error={found.error} /> : !first ? <Loading /> : (
        <Section title={draft ? "Flows, changed ones first" : "Flows, unprotected first"} tools={first.truncated > 0 && <span className="soft">the first {count(rows.length)}</span>}>
          <ul className={css.uses}>{rows.map((row) => <Flow key={flowId(row)} row={row} now={now} onOpen={onOpen} />)}</ul>
        </Section>
      )}
    </Drawer>
  );
}

function Flow({ row, now, onOpen }: { row: FlowRow; now: number; onOpen: Props["onOpen"] }) {
  return (
    <li>
      <div><code>{printable(row.service)}</code><VerdictBadge verdict={row.now.status} />{row.draft && row.draft.status !== row.now.status && <>→ <VerdictBadge verdict={row.draft.status} /></>}<b className="number">{count(row.connections)}</b></div>
      <button type="button" className={css.link} onClick={() => onOpen(row.source, row.destination)}>{printable(row.source_name)} → {printable(row.destination_name)}</button>
      <small>{row.now.rule ? <code>{printable(row.now.rule)}</code> : "no rule"} · {ago(row.last, now)}</small>
    </li>
  );
}
