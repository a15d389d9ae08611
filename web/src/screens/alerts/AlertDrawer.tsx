// One alert: what it says, why the connection passes or not, and what to do about it.

import { useMutation, useQueries, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { api, told } from "../../api/client";
import { ApiError } from "../../api/errors";
import { keys, refresh } from "../../api/queries";
import type { Alert, Workload } from "../../api/types";
import { Explanation } from "../../parts/Explanation";
import { QuarantineDialog } from "../../parts/QuarantineDialog";
import { AlertStateBadge, Badge, SeverityBadge } from "../../ui/Badge";
import { Code, ErrorBox, Fact, Facts, Loading, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area } from "../../ui/Field";
import { Dialog, Drawer, say, Section } from "../../ui/Over";
import { useNow } from "../../ui/useNow";
import { ago, count, moment, printable } from "../../words";
import css from "./Alerts.module.css";
import { type Case, caseOf, containmentOf, suspects } from "./groups";

export function AlertDrawer({ id, known, onClose }: { id: string; known: Alert | undefined; onClose: () => void }) {
  const found = useQuery({
    queryKey: ["alerts", "one", id],
    queryFn: ({ signal }) => told(api.GET("/v1/alerts/{id}", { params: { path: { id } }, signal })),
    initialData: known,
    initialDataUpdatedAt: 0,
  });
  if (found.data) return <Details alert={found.data} onClose={onClose} />;
  return <Drawer title="Alert" onClose={onClose}>{found.error ? <ErrorBox error={found.error} /> : <Loading />}</Drawer>;
}

/** Which of the names are workloads; none while that is asked. Who is no workload cannot be isolated. */
function useSuspects(alert: Alert): Workload[] | null {
  const asked = useQueries({
    queries: suspects(alert).map((name) => ({
      queryKey: keys.workload(name),
      queryFn: ({ signal }: { signal: AbortSignal }) =>
        told(api.GET("/v1/workloads/{name}", { params: { path: { name } }, signal })).catch((error: unknown) => {
          if (error instanceof ApiError && error.status === 404) return null;
          throw error;
        }),
    })),
  });
  if (asked.some((one) => one.data === undefined)) return null;
  return asked.map((one) => one.data).filter((one) => one !== null && one !== undefined);
}

function Details({ alert, onClose }: { alert: Alert; onClose: () => void }) {
  const now = useNow();
  const case_ = caseOf(alert);
  const known = useSuspects(alert);
  const found = known ?? [];
  const [isolating, setIsolating] = useState<Workload | null>(null);
  const [handling, setHandling] = useState<"acknowledge" | "resolve" | null>(null);
  const { first, others, outsider } = containmentOf(alert, found);
  const asked = connectionOf(case_);
  return (
    <Drawer
      title={printable(alert.message)} onClose={onClose}
      about={<div className={css.row}><SeverityBadge severity={alert.severity} /><AlertStateBadge state={alert.state} /><Badge>{alert.kind}</Badge></div>}
      foot={
        <>
          {alert.state === "open" && <Button needs="alerts" icon="check" onClick={() => setHandling("acknowledge")}>Acknowledge</Button>}
          {alert.state !== "closed" && <Button needs="alerts" onClick={() => setHandling("resolve")}>Resolve</Button>}
          {first && <Button key={first.uuid} needs="quarantine" look="danger" icon="lock" onClick={() => setIsolating(first)}>Quarantine {printable(first.name)}</Button>}
        </>
      }
    >
      {asked && <Section title="Why"><Explanation of={asked} /></Section>}
      <Section title="What happened">
        <Facts>
          <Fact name="Seen">{count(alert.count)}×, last <span title={moment(alert.last)}>{ago(alert.last, now)}</span></Fact>
          <Fact name="First">{moment(alert.first)}</Fact>
          {alert.subject && <Fact name="About">{printable(alert.subject)}</Fact>}
          {case_.source && <Fact name="From"><End name={case_.source} identity={case_.sourceIdentity} address={case_.sourceAddress} /></Fact>}
          {case_.destination && <Fact name="To"><End name={case_.destination} identity={case_.destinationIdentity} address={case_.destinationAddress} /></Fact>}
          {case_.service && <Fact name="Service"><code>{printable(case_.service)}</code></Fact>}
          {case_.rule && <Fact name="Rule"><code>{printable(case_.rule)}</code></Fact>}
          {case_.handledBy && <Fact name={alert.state === "closed" ? "Closed by" : "Looked after by"}>{printable(case_.handledBy)}{case_.why && `: ${printable(case_.why)}`}</Fact>}
          {case_.reopened > 0 && <Fact name="Came back">{count(case_.reopened)}×</Fact>}
        </Facts>
      </Section>
      {case_.examples.length > 0 && <Section title="Examples"><ul className={css.list}>{case_.examples.map((one, index) => <li key={index}>{printable(one)}</li>)}</ul></Section>}
      {known && (found.length > 0 || outsider) && (
        <Section title="Who is in it">
          {found.length > 0 && <div className={css.suspects}>{found.map((one) => <Link key={one.uuid} to={`/workloads?open=${one.uuid}`}><Badge tone={one.is_quarantined ? "bad" : "accent"} {...(one.is_quarantined && { mark: "⛒" })}>{printable(one.name)}</Badge></Link>)}</div>}
          {outsider && <Note><b>{printable(outsider)}</b> began it and cannot be isolated: it is no workload of this estate, so no agent holds it. Find it by its address in the network or the cloud that it comes from.</Note>}
          {first?.state === "unmanaged" && <Note>No agent runs on <b>{printable(first.name)}</b>: the hosts it talks to keep it off.</Note>}
          {others.map((one) => (
            <div key={one.uuid} className={css.other}>
              <p className="soft">{one.name === case_.destination ? <><b>{printable(one.name)}</b> was reached for. Isolating it keeps everybody off, those who need it as well.</> : <><b>{printable(one.name)}</b> is in it, too.</>}</p>
              <Button needs="quarantine" isTight icon="lock" onClick={() => setIsolating(one)}>Quarantine {printable(one.name)}{one.name === case_.destination && ", the destination"}</Button>
            </div>
          ))}
        </Section>
      )}
      {case_.commands.length > 0 && <Section title="By the command line"><Code text={case_.commands.join("\n")} /></Section>}
      {isolating && <QuarantineDialog workloads={[isolating]} why={`Alert ${alert.id}: ${alert.message}`.slice(0, 300)} onClose={() => setIsolating(null)} />}
      {handling && <Handle alert={alert} how={handling} onClose={() => setHandling(null)} />}
    </Drawer>
  );
}

const connectionOf = (case_: Case) =>
  case_.source && case_.destination && case_.service ? { source: case_.source, destination: case_.destination, service: case_.service } : null;

function End({ name, identity, address }: { name: string; identity: string; address: string }) {
  return <><b>{printable(name)}</b>{address && address !== name && <span className="mono soft"> {address}</span>}{identity && <div className="soft small">{printable(identity)}</div>}</>;
}

function Handle({ alert, how, onClose }: { alert: Alert; how: "acknowledge" | "resolve"; onClose: () => void }) {
  const [why, setWhy] = useState("");
  const handle = useMutation({
    mutationFn: () => {
      const asked = { params: { path: { id: alert.id } }, body: { why } };
      return told(how === "acknowledge" ? api.POST("/v1/alerts/{id}/acknowledge", asked) : api.POST("/v1/alerts/{id}/resolve", asked));
    },
    onSuccess: () => {
      say(how === "acknowledge" ? "You look after it" : "Resolved");
      void refresh("alerts", "status", "audit");
      onClose();
    },
  });
  const title = how === "acknowledge" ? "Look after this alert" : "Resolve this alert";
  return (
    <Dialog
      title={title} about={printable(alert.message)} onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="primary" isBusy={handle.isPending} onClick={() => handle.mutate()}>{how === "acknowledge" ? "Acknowledge" : "Resolve"}</Button></>}
    >
      <Area name="Why" help="Stands in the audit log." value={why} onChange={(event) => setWhy(event.target.value)} />
      {how === "resolve" && <p className="soft">It opens again when it comes back.</p>}
      {handle.error && <ErrorBox error={handle.error} />}
    </Dialog>
  );
}
