// Who is isolated, since when, for how long, and whether every host has it in force.

import { useMutation } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { api, told } from "../../api/client";
import { refresh, useQuarantines } from "../../api/queries";
import type { Contained } from "../../api/types";
import { Badge, type Tone } from "../../ui/Badge";
import { Empty, ErrorBox, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area } from "../../ui/Field";
import { Dialog, say } from "../../ui/Over";
import { type Column, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { ago, count, moment, plural, printable } from "../../words";

const FORCE: Record<Contained["state"], { tone: Tone; mark: string; word: string }> = {
  verified: { tone: "good", mark: "✓", word: "verified" },
  partly: { tone: "warning", mark: "!", word: "partly" },
  pending: { tone: "accent", mark: "…", word: "pending" },
};

const forceHelp = (one: Contained): string =>
  [`${one.verified_peers} of ${one.peers} peers read it back`, one.own ? `the host itself: ${one.own.state}` : "no agent runs there", one.unreachable ? `${one.unreachable} are not heard` : ""].filter(Boolean).join("; ");

const columnsAt = (now: number, onRelease: (one: Contained) => void): readonly Column<Contained>[] => [
  { id: "name", name: "Workload", width: "17%", by: (one) => one.name, cell: (one) => <b>{printable(one.name)}</b> },
  { id: "force", name: "In force", width: "118px", by: (one) => one.state, cell: (one) => <Badge {...FORCE[one.state]} title={forceHelp(one)}>{FORCE[one.state].word}</Badge> },
  { id: "peers", name: "Peers", width: "92px", isNumber: true, by: (one) => one.verified_peers, cell: (one) => `${count(one.verified_peers)} / ${count(one.peers)}` },
  { id: "level", name: "Level", width: "94px", isExtra: true, by: (one) => one.level, cell: (one) => one.level },
  { id: "why", name: "Why", cell: (one) => <span title={printable(one.why)}>{printable(one.why)}</span> },
  { id: "by", name: "By", width: "120px", isExtra: true, by: (one) => one.by, cell: (one) => printable(one.by) },
  { id: "since", name: "Since", width: "100px", isExtra: true, by: (one) => one.since, cell: (one) => <span title={moment(one.since)}>{ago(one.since, now)}</span> },
  { id: "until", name: "Ends", width: "100px", by: (one) => one.until ?? "9", cell: (one) => (one.until ? <span title={moment(one.until)}>{ago(one.until, now)}</span> : "on release") },
  { id: "release", name: "", width: "118px", cell: (one) => <Button needs="release" isTight icon="undo" aria-label={`Release ${printable(one.name)}`} onClick={() => onRelease(one)}>Release</Button> },
];

export function Quarantines() {
  const found = useQuarantines();
  const now = useNow();
  const [releasing, setReleasing] = useState<Contained | null>(null);
  const columns = useMemo(() => columnsAt(now, setReleasing), [now]);
  if (found.error && !found.data) return <ErrorBox error={found.error} onRetry={() => void found.refetch()} />;
  if (!found.data) return <Loading />;
  if (found.data.length === 0) {
    return (
      <Empty icon="lock" title="Nobody is in quarantine">
        <p>From an alert, or from the list of workloads, a workload is isolated on its own host and on every peer within a moment; this page says how far hosts read it back.</p>
      </Empty>
    );
  }
  return (
    <>
      <Table label="Quarantines" rows={found.data} columns={columns} idOf={idOf} order={{ id: "since", isDown: true }} />
      {releasing && <Release of={releasing} onClose={() => setReleasing(null)} />}
    </>
  );
}

const idOf = (one: Contained): string => one.id;

function Release({ of: one, onClose }: { of: Contained; onClose: () => void }) {
  const [why, setWhy] = useState("");
  const release = useMutation({
    mutationFn: () => told(api.POST("/v1/quarantines/release", { body: { workloads: [one.workload], why } })),
    onSuccess: ({ changed }) => {
      say(`${plural(changed, "quarantine")} ended`);
      void refresh("quarantines", "workloads", "workload", "status", "alerts", "audit");
      onClose();
    },
  });
  return (
    <Dialog
      title={`Release ${printable(one.name)}`} about="Policy decides again what it may reach, from now." onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="primary" isBusy={release.isPending} disabled={why.trim() === ""} onClick={() => release.mutate()}>Release</Button></>}
    >
      <Area name="Why" help="Stands in the audit log." required value={why} onChange={(event) => setWhy(event.target.value)} />
      {release.error && <ErrorBox error={release.error} />}
    </Dialog>
  );
}
