// Who did what, the latest first; and whether the log is as it was written.

import { useInfiniteQuery, useMutation } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { api, told } from "../../api/client";
import { keys } from "../../api/queries";
import type { AuditChecked, AuditEntry } from "../../api/types";
import { Badge } from "../../ui/Badge";
import { Code, Empty, ErrorBox, Fact, Facts, Loading, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Filter } from "../../ui/Field";
import { Drawer, Section } from "../../ui/Over";
import { Page, PickedBar } from "../../ui/Page";
import { type Column, Table } from "../../ui/Table";
import { count, moment, plural, printable } from "../../words";
import { ExportDialog } from "./ExportDialog";
import { changeOf, detailsOf } from "./told";

const PAGE = 500;

const COLUMNS: readonly Column<AuditEntry>[] = [
  { id: "seq", name: "No.", width: "76px", isNumber: true, isExtra: true, by: (one) => one.seq, cell: (one) => <span className="soft">{one.seq}</span> },
  { id: "at", name: "When", width: "184px", by: (one) => one.at, cell: (one) => <span className="number">{moment(one.at)}</span> },
  { id: "actor", name: "Who", width: "150px", by: (one) => one.actor_name ?? one.actor, cell: (one) => <b title={one.actor_name && one.actor}>{printable(one.actor_name ?? one.actor)}</b> },
  { id: "action", name: "Did", width: "168px", by: (one) => one.action, cell: (one) => <Badge tone={toneOf(one.action)}>{one.action}</Badge> },
  { id: "subject", name: "To", width: "20%", isExtra: true, by: (one) => one.name ?? one.subject, cell: (one) => one.name ? <b title={one.subject}>{printable(one.name)}</b> : <span className="mono">{printable(one.subject)}</span> },
  { id: "details", name: "Details", cell: (one) => <span className="soft">{printable(changeOf(one))}</span> },
];

const toneOf = (action: string): "bad" | "accent" | "plain" =>
  /quarantine\.begin|revoke|retire|restore/.test(action) ? "bad" : /^(policy|workload|rollout)\./.test(action) ? "accent" : "plain";

export default function Audit() {
  const [asked, setAsked] = useState({ actor: "", action: "", subject: "" });
  const [opened, setOpened] = useState<AuditEntry | null>(null);
  const [isExporting, setExporting] = useState(false);
  const found = useInfiniteQuery({
    queryKey: [...keys.audit, "pages", asked],
    queryFn: ({ pageParam, signal }) => told(api.GET("/v1/audit", { params: { query: { before: pageParam, limit: PAGE, ...asked } }, signal })),
    initialPageParam: 0,
    getNextPageParam: (page) => (page.length === PAGE ? page.at(-1)?.seq : undefined),
    refetchInterval: (query) => ((query.state.data?.pages.length ?? 0) > 1 ? false : 15_000),
    placeholderData: (before) => before,
  });
  const verify = useMutation({ mutationFn: () => told(api.GET("/v1/audit/verify")) });
  const rows = useMemo(() => found.data?.pages.flat() ?? [], [found.data]);
  const filter = (key: keyof typeof asked, name: string) => (
    <Filter name={name} defaultValue={asked[key]} onKeyDown={(event) => event.key === "Enter" && setAsked({ ...asked, [key]: event.currentTarget.value.trim() })} onBlur={(event) => setAsked({ ...asked, [key]: event.target.value.trim() })} />
  );
  return (
    <Page
      title="Audit" isSheet about={rows.length > 0 && plural(rows.length, "entry", "entries")}
      tools={<>{filter("actor", "Who")}{filter("action", "Did, as policy.publish")}{filter("subject", "To")}<Button icon="save" onClick={() => setExporting(true)}>Export…</Button><Button icon="shield" isBusy={verify.isPending} onClick={() => verify.mutate()}>Verify the log</Button></>}
      side={opened && <Entry of={opened} onClose={() => setOpened(null)} />}
    >
      {(verify.data ?? verify.error) && <PickedBar>{verify.error ? <ErrorBox error={verify.error} /> : verify.data && <Verdict of={verify.data} />}<Button isTight look="quiet" onClick={() => verify.reset()}>Hide</Button></PickedBar>}
      {found.error && !found.data ? (
        <ErrorBox error={found.error} onRetry={() => void found.refetch()} />
      ) : !found.data ? (
        <Loading lines={10} />
      ) : rows.length === 0 ? (
        <Empty icon="log" title="No entry is like that"><p>Filters ask for the whole name: `ann`, `policy.publish`, a workload or its UUID.</p></Empty>
      ) : (
        <Table label="Audit log" rows={rows} columns={COLUMNS} idOf={idOf} nameOf={nameOf} opened={opened ? idOf(opened) : undefined} onOpen={setOpened} onEnd={found.hasNextPage && !found.isFetching ? () => void found.fetchNextPage() : undefined} />
      )}
      {isExporting && <ExportDialog asked={asked} onClose={() => setExporting(false)} />}
    </Page>
  );
}

const idOf = (one: AuditEntry): string => String(one.seq);
const nameOf = (one: AuditEntry): string => `${one.action} by ${printable(one.actor_name ?? one.actor)}`;

function Verdict({ of: checked }: { of: AuditChecked }) {
  if (!checked.is_intact) {
    return <span><Badge tone="bad" mark="✕">broken</Badge> {printable(checked.broken?.message ?? "the log is not as it was written")}</span>;
  }
  return <span><Badge tone="good" mark="✓">intact</Badge> {plural(checked.entries, "entry", "entries")}, as written; signed as far as {count(checked.signed)}.</span>;
}

function Entry({ of: one, onClose }: { of: AuditEntry; onClose: () => void }) {
  return (
    <Drawer title={one.action} about={<span className="soft">Entry {one.seq}, {moment(one.at)}</span>} onClose={onClose}>
      <Facts>
        <Fact name="Who">{one.actor_name && <b>{printable(one.actor_name)} </b>}{printable(one.actor)}</Fact>
        <Fact name="To">{one.name && <b>{printable(one.name)} </b>}<span className="mono">{printable(one.subject) || "–"}</span></Fact>
      </Facts>
      {changeOf(one) && <Section title="In short"><p>{printable(changeOf(one))}</p></Section>}
      <Section title="Details"><Code text={JSON.stringify(detailsOf(one), null, 2)} /></Section>
      <Section title="Seal">
        <Facts>
          <Fact name="Hash"><span className="mono">{one.hash}</span></Fact>
          <Fact name="Entry before"><span className="mono">{one.previous}</span></Fact>
        </Facts>
      </Section>
      <Note>Each entry holds the hash of the one before: what is edited, deleted or put in breaks the chain there.</Note>
    </Drawer>
  );
}
