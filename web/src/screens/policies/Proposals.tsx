// What one person wrote and another decides about: the text, what it does, yes or no.

import type { Proposal } from "../../api/types";
import { Empty, ErrorBox, Loading } from "../../ui/Box";
import { type Column, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { ago, moment, printable } from "../../words";
import { type InForce, useProposals } from "./asked";
import { usePlace } from "./place";
import css from "./Policies.module.css";
import { ProposalDrawer } from "./ProposalDrawer";

const columnsAt = (now: number): readonly Column<Proposal>[] => [
  { id: "note", name: "Note", cell: (one) => one.note ? <b>{printable(one.note)}</b> : <span className="soft">none</span> },
  { id: "actor", name: "Who", width: "20%", by: (one) => one.actor, cell: (one) => printable(one.actor) },
  { id: "base", name: "Made from", width: "110px", by: (one) => one.base ?? 0, cell: (one) => one.base ? `version ${one.base}` : "nothing" },
  { id: "at", name: "When", width: "120px", by: (one) => Date.parse(one.at), cell: (one) => <span className="soft" title={moment(one.at)}>{ago(one.at, now)}</span> },
];

export function Proposals({ base }: { base: InForce }) {
  const place = usePlace();
  const asked = useProposals();
  const now = useNow(30_000);
  if (!asked.data) return asked.error ? <ErrorBox error={asked.error} onRetry={() => void asked.refetch()} /> : <Loading lines={6} />;
  const opened = asked.data.find((one) => one.id === place.get("proposal"));
  if (asked.data.length === 0) {
    return <Empty icon="person" title="Nothing waits for a second person"><p>Propose drafts in place of applying them, and somebody else sees the text and what it does, then approves or rejects. A controller can demand it for every change.</p></Empty>;
  }
  return (
    <div className={css.split}>
      <Table label="Proposals" rows={asked.data} columns={columnsAt(now)} idOf={(one) => one.id} nameOf={(one) => `${printable(one.note)} by ${printable(one.actor)}`} opened={opened?.id} onOpen={(one) => place.put({ proposal: one.id === opened?.id ? "" : one.id })} />
      {opened && <ProposalDrawer key={opened.id} proposal={opened} base={base} now={now} onClose={() => place.put({ proposal: "" })} />}
    </div>
  );
}
