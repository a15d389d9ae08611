// One workload, whole: what it is, what is in force there, what was done to it.

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, told } from "../../api/client";
import { keys, useWorkloads } from "../../api/queries";
import type { AuditEntry, Workload } from "../../api/types";
import { QuarantineDialog } from "../../parts/QuarantineDialog";
import { claimWords } from "./claims";
import { useMay } from "../../session/session";
import { Badge, Labels, ModeBadge, StateBadge, stateHelp } from "../../ui/Badge";
import { ErrorBox, Fact, Facts, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Drawer, Section } from "../../ui/Over";
import { useNow } from "../../ui/useNow";
import { ago, moment, printable } from "../../words";
import { changeOf } from "../audit/told";
import { LabelsDialog } from "./LabelsDialog";
import { ModeDialog } from "./ModeDialog";
import css from "./Workloads.module.css";

const MOST_HISTORY = 20;

export function WorkloadDrawer({ uuid, known, onClose }: { uuid: string; known: Workload | undefined; onClose: () => void }) {
  const found = useQuery({
    queryKey: keys.workload(uuid),
    queryFn: ({ signal }) => told(api.GET("/v1/workloads/{name}", { params: { path: { name: uuid } }, signal })),
    initialData: known,
    initialDataUpdatedAt: 0,
    refetchInterval: 5000,
  });
  if (found.data) return <Details of={found.data} onClose={onClose} />;
  return <Drawer title="Workload" onClose={onClose}>{found.error ? <ErrorBox error={found.error} /> : <Loading />}</Drawer>;
}

type Doing = "labels" | "mode" | "quarantine" | null;

function Details({ of: one, onClose }: { of: Workload; onClose: () => void }) {
  const now = useNow();
  const [doing, setDoing] = useState<Doing>(null);
  const everybody = useWorkloads("").data?.items ?? [one];
  const mayAudit = useMay("audit");
  const over = { labels: [one.labels] };
  const done = (): void => setDoing(null);
  return (
    <Drawer
      title={printable(one.name)} onClose={onClose}
      about={<div className={css.row}><StateBadge state={one.state} />{one.state !== "unmanaged" && <ModeBadge mode={one.mode} />}{one.is_quarantined && <Badge tone="bad" mark="⛒">quarantine</Badge>}</div>}
      foot={!one.is_quarantined && <Button needs="quarantine" over={over} look="danger" icon="lock" onClick={() => setDoing("quarantine")}>Quarantine</Button>}
    >
      <p className="soft">{stateHelp(one.state)}</p>
      {one.problems.length > 0 && <ul className={css.problems}>{one.problems.map((problem) => <li key={problem}>{printable(problem)}</li>)}</ul>}
      {one.refused.length > 0 && <ul className={css.problems}>{one.refused.map((claim) => <li key={claim.address}>{printable(claimWords(claim))}</li>)}</ul>}
      {one.disabled_until && <p className={css.problems}>Break-glass: enforcement is off on this host until {moment(one.disabled_until)}.</p>}
      <Section title="Labels" tools={<Button needs="label" over={over} isTight look="quiet" icon="tag" onClick={() => setDoing("labels")}>Edit</Button>}><Labels labels={one.labels} /></Section>
      <Section title="Held" tools={one.state !== "unmanaged" && <Button needs="mode" over={over} isTight look="quiet" icon="shield" onClick={() => setDoing("mode")}>Change</Button>}>
        <Facts>
          <Fact name="Inbound">{one.mode.in}</Fact>
          <Fact name="Outbound">{one.mode.out}</Fact>
          {one.forwards && <Fact name="Forwards">for others (containers?): not judged by policy, dropped in quarantine</Fact>}
          <Fact name="Policy version">{one.policy_version || "none"}</Fact>
          <Fact name="Last heard">{one.seen ? <span title={moment(one.seen)}>{ago(one.seen, now)}</span> : "never"}</Fact>
        </Facts>
      </Section>
      <Section title="Who it is">
        <Facts>
          <Fact name="Kind">{one.kind}</Fact>
          <Fact name="Known from">{one.origin === "agent" ? `agent ${one.agent}` : printable(one.origin)}</Fact>
          <Fact name="Addresses">{one.addresses.length ? one.addresses.map((address) => <div key={address} className="mono">{address}</div>) : "none"}</Fact>
          {one.spiffe && <Fact name="Identity"><span className="mono">{one.spiffe}</span></Fact>}
          <Fact name="UUID"><span className="mono">{one.uuid}</span></Fact>
        </Facts>
      </Section>
      {mayAudit && <History uuid={one.uuid} />}
      {doing === "labels" && <LabelsDialog workloads={[one]} known={everybody} onClose={done} onDone={done} />}
      {doing === "mode" && <ModeDialog workloads={[one]} onClose={done} onDone={done} />}
      {doing === "quarantine" && <QuarantineDialog workloads={[one]} why="" onClose={done} />}
    </Drawer>
  );
}

function History({ uuid }: { uuid: string }) {
  const now = useNow();
  const found = useQuery({
    queryKey: [...keys.audit, "of", uuid],
    queryFn: ({ signal }) => told(api.GET("/v1/audit", { params: { query: { subject: uuid, limit: MOST_HISTORY } }, signal })),
  });
  return (
    <Section title="History">
      {found.error && <ErrorBox error={found.error} />}
      <ul className={css.history}>{found.data?.map((entry) => <Event key={entry.seq} entry={entry} now={now} />)}</ul>
      {found.data?.length === 0 && <p className="soft">Nothing was done to it.</p>}
    </Section>
  );
}

function Event({ entry, now }: { entry: AuditEntry; now: number }) {
  const change = changeOf(entry);
  return (
    <li>
      <span>{entry.action} <span className="soft">by {printable(entry.actor)}</span></span><span className="soft" title={moment(entry.at)}>{ago(entry.at, now)}</span>
      {change && <small>{printable(change)}</small>}
    </li>
  );
}
