// How protected are we: each number leads to what it counts.

import { useMemo, useState } from "react";
import { Link } from "react-router";
import { useAlerts, usePosture, useQuarantines, useStatus, useWorkloads } from "../../api/queries";
import type { Alert, Posture as Told, Status, Workload } from "../../api/types";
import { SCREENS } from "..";
import { useEstateQuery } from "../../shell/query";
import { Badge, SeverityBadge } from "../../ui/Badge";
import { Card, ErrorBox, Loading, Progress, type Share, ShareBar, Stat } from "../../ui/Box";
import { Select } from "../../ui/Field";
import { Icon } from "../../ui/Icon";
import { Page } from "../../ui/Page";
import { useNow } from "../../ui/useNow";
import { ago, brief, count, percent, plural, printable } from "../../words";
import { Begin } from "../setup/Begin";
import css from "./Home.module.css";
import { type Group, groupsBy, type Hold, HOLDS, holdsOf, keysOf, fateOf, spanOf, type Traffic } from "./posture";

const MOST_GROUPS = 12;
const MOST_ALERTS = 6;
const HOLD_TONE = { enforce: "good", selective: "accent", observe: "warning", none: "unknown" } as const;
const HOLD_WORD: Record<Hold, string> = { enforce: "enforcing", selective: "selective", observe: "observing", none: "no agent" };

export default function Home() {
  const { where } = useEstateQuery();
  const status = useStatus();
  const found = useWorkloads(where);
  const failed = status.error ?? found.error;
  const about = where ? `of ${printable(where)}` : undefined;
  return (
    <Page title="How protected are we" about={about}>
      {failed && !(status.data && found.data) ? (
        <ErrorBox error={failed} onRetry={() => (void status.refetch(), void found.refetch())} />
      ) : !status.data || !found.data ? (
        <Loading lines={8} />
      ) : status.data.workloads === 0 ? (
        <FirstSteps />
      ) : (
        <Posture status={status.data} workloads={found.data.items} />
      )}
    </Page>
  );
}

function Posture({ status, workloads }: { status: Status; workloads: readonly Workload[] }) {
  const { where } = useEstateQuery();
  const alerts = useAlerts(false).data?.items;
  const quarantines = useQuarantines().data;
  const posture = usePosture();
  const day = posture.data?.coverage[0];
  const holds = useMemo(() => holdsOf(workloads), [workloads]);
  const hosts = workloads.filter((one) => one.origin === "agent");
  const realised = hosts.filter((one) => one.state === "realised").length;
  const severe = (alerts ?? []).filter((one) => one.severity !== "info" && one.state !== "closed");
  const urgent = severe.filter((one) => one.severity === "critical" || one.severity === "error").length;
  const filter = (extra: string): string => `/workloads?${new URLSearchParams({ ...(where && { where }), ...(extra && { [extra.split("=")[0] ?? ""]: extra.split("=")[1] ?? "" }) })}`;
  return (
    <div className={css.grid}>
      <div className={css.numbers}>
        <Stat name="Enforcing" value={percent(holds.enforce, workloads.length)} hint={`${count(holds.enforce)} of ${plural(workloads.length, "workload")}`} tone={holds.enforce === workloads.length && workloads.length > 0 ? "good" : undefined} to={filter("mode=enforce")} />
        <Stat name="Traffic with a rule" value={day ? percent(day.covered, day.covered + day.uncovered) : "…"} hint={day ? (day.connections ? `${brief(day.uncovered)} of ${brief(day.connections)} in ${spanOf(day.hours)} without` : `none was seen in ${spanOf(day.hours)}`) : "last 24 hours"} to="/map?verdict=uncovered" tone={day && day.uncovered > 0 ? "warning" : undefined} />
        <Stat name="Hosts as told" value={count(realised)} of={count(hosts.length)} hint={hosts.length ? "read back from their kernels" : "no host runs an agent yet"} tone={hosts.length === 0 ? undefined : realised < hosts.length ? "warning" : "good"} to={filter("state=realised")} />
        <Stat name="Open alerts" value={alerts ? count(severe.length) : "…"} hint={urgent ? `${count(urgent)} urgent` : "none urgent"} tone={urgent ? "bad" : undefined} to="/alerts" />
        <Stat name="In quarantine" value={count(status.quarantines)} hint={status.quarantines ? `${count(status.quarantines_verified)} verified on every host` : "nobody is isolated"} tone={status.quarantines > status.quarantines_verified ? "warning" : undefined} to="/alerts?tab=quarantines" />
        <Stat name="Policy version" value={status.policy_version || "–"} hint={status.policy_version ? `${count(status.rollout.confirmed)} of ${plural(status.rollout.total, "host")} confirmed` : "nothing is published"} to={status.policy_version ? "/policies?tab=rollout" : "/policies"} />
      </div>
      <div className={css.column}>
        <Coverage workloads={workloads} holds={holds} filter={filter} />
        {day && day.connections > 0 && <Fate day={day} />}
        {posture.data && <Jewels posture={posture.data} />}
        <ByLabel workloads={workloads} />
      </div>
      <div className={css.column}>
        {posture.error ? <ErrorBox error={posture.error} onRetry={() => void posture.refetch()} /> : <Next steps={posture.data?.next} />}
        <Latest alerts={severe} isKnown={alerts !== undefined} />
        <Rollout status={status} />
        <Parts status={status} isolated={quarantines?.filter((one) => one.state !== "verified").length ?? 0} />
      </div>
    </div>
  );
}

const sharesOf = (holds: Record<Hold, number>): Share[] => HOLDS.map((hold) => ({ name: HOLD_WORD[hold], value: holds[hold], tone: HOLD_TONE[hold] }));

function Coverage({ workloads, holds, filter }: { workloads: readonly Workload[]; holds: Record<Hold, number>; filter: (extra: string) => string }) {
  return (
    <Card title="Held how strictly" tools={<span className="soft small">inbound mode</span>}>
      <div className={css.cover}>
        <div><ShareBar label="Workloads by mode" shares={sharesOf(holds)} /></div>
        <div className={css.key}>
          {HOLDS.map((hold) => (
            <Link key={hold} to={filter(hold === "none" ? "state=unmanaged" : `mode=${hold}`)}>
              <i className={css[hold]} /><b>{count(holds[hold])}</b><span className="soft">{HOLD_WORD[hold]} · {percent(holds[hold], workloads.length)}</span>
            </Link>
          ))}
        </div>
      </div>
    </Card>
  );
}

/** Today beside what the rules would make of it, before anybody enforces them. */
function Fate({ day }: { day: Traffic }) {
  const { now, then } = fateOf(day);
  return (
    <Card title="What becomes of traffic" tools={<span className="soft small">{plural(day.connections, "connection")} in {spanOf(day.hours)}</span>}>
      <div className={css.fate}>
        {([["Today", now], ["If all enforced", then]] as const).map(([name, parts]) => (
          <section key={name} aria-label={name}>
            <h3>{name}</h3>
            <div className={css.cover}>
              <div><ShareBar label={name} shares={parts.map((part) => ({ name: part.word, value: part.value, tone: part.tone }))} /></div>
              <div className={css.key}>
                {parts.filter((part) => part.value > 0).map((part) => (
                  <Link key={part.word} to={part.verdict ? `/map?verdict=${part.verdict}` : "/recommend"}><i data-tone={part.tone} /><b>{brief(part.value)}</b><span className="soft">{part.word}</span></Link>
                ))}
              </div>
            </div>
          </section>
        ))}
      </div>
    </Card>
  );
}

function ByLabel({ workloads }: { workloads: readonly Workload[] }) {
  const keys = useMemo(() => keysOf(workloads), [workloads]);
  const [chosen, choose] = useState("");
  const key = keys.includes(chosen) ? chosen : keys.includes("app") ? "app" : (keys[0] ?? "");
  const groups = useMemo(() => (key ? groupsBy(workloads, key) : []), [workloads, key]);
  if (!key) return null;
  return (
    <Card title="Unprotected first" isFlush tools={<Select name="Group by" isTight values={keys.map((one) => [one, `by ${one}`])} value={key} onChange={(event) => choose(event.target.value)} />}>
      <table className={css.groups}>
        <thead><tr><th scope="col">{key}</th><th scope="col" className={css.number} style={{ width: 96 }}>workloads</th><th scope="col" style={{ width: "42%" }}>held how</th><th scope="col" className={css.number} style={{ width: 92 }}>trouble</th></tr></thead>
        <tbody>{groups.slice(0, MOST_GROUPS).map((group) => <Line key={group.where} group={group} />)}</tbody>
      </table>
      {groups.length > MOST_GROUPS && <p className={css.nothing}>and {count(groups.length - MOST_GROUPS)} more</p>}
    </Card>
  );
}

function Line({ group }: { group: Group }) {
  return (
    <tr>
      <td><Link to={`/workloads?${new URLSearchParams({ where: group.where })}`}>{printable(group.name)}</Link></td>
      <td className={`${css.number} number`}>{count(group.workloads)}</td>
      <td><ShareBar label={group.name} shares={sharesOf(group.holds)} /></td>
      <td className={css.number}>{group.troubled ? <Badge tone="bad" mark="!">{count(group.troubled)}</Badge> : <span className="soft">–</span>}</td>
    </tr>
  );
}

/** Critical segments: who reaches them now, and who would once everything is enforced. */
function Jewels({ posture }: { posture: Told }) {
  if (posture.jewels.length === 0) return null;
  return (
    <Card title="Crown jewels" isFlush tools={<span className="soft small">who reaches them in one step</span>}>
      <table className={css.groups}>
        <thead><tr><th scope="col">segment</th><th scope="col" className={css.number} style={{ width: 110 }}>enforcing</th><th scope="col" className={css.number} style={{ width: 150 }}>reached by now</th><th scope="col" className={css.number} style={{ width: 150 }}>once enforced</th><th scope="col" style={{ width: 132 }}>internet</th></tr></thead>
        <tbody>
          {posture.jewels.map((jewel) => (
            <tr key={jewel.segment}>
              <td><Link to={`/workloads?${new URLSearchParams({ where: jewel.selector })}`} title={printable(jewel.selector)}>{printable(jewel.segment)}</Link></td>
              <td className={`${css.number} number`}>{count(jewel.enforcing)} of {count(jewel.workloads)}</td>
              <td className={`${css.number} number`}>{plural(jewel.workloads_now, "workload")}</td>
              <td className={`${css.number} number`}>{plural(jewel.workloads_allowed, "workload")}</td>
              <td>{jewel.is_open_to_internet_now ? <Badge tone="bad" mark="!">open now</Badge> : jewel.is_open_to_internet ? <Badge tone="warning" mark="!">allowed</Badge> : <Badge tone="good" mark="✓">closed</Badge>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

const STEP_TONE = { critical: "bad", warning: "warning", info: "plain" } as const;
const STEP_MARK = { critical: "▲", warning: "!", info: "i" } as const;

/** What the controller counts as pressing; a step leads somewhere once its screen exists. */
function Next({ steps }: { steps: Told["next"] | undefined }) {
  return (
    <Card title="What to do next" isFlush>
      {!steps ? <Loading lines={3} /> : steps.length === 0 && <p className={css.nothing}>Nothing presses.</p>}
      <ol className={css.list}>
        {steps?.map((step) => {
          const inner = <><Badge tone={STEP_TONE[step.severity]} mark={STEP_MARK[step.severity]}>{step.severity}</Badge><span>{sentence(printable(step.text))}</span></>;
          const path = step.link.split("?")[0];
          return <li key={step.text}>{SCREENS.some((screen) => screen.path === path) ? <Link to={step.link}>{inner}<Icon name="right" /></Link> : <div>{inner}</div>}</li>;
        })}
      </ol>
    </Card>
  );
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function Latest({ alerts, isKnown }: { alerts: readonly Alert[]; isKnown: boolean }) {
  const now = useNow();
  return (
    <Card title="Alerts" isFlush tools={<Link to="/alerts" className="small">All alerts</Link>}>
      {!isKnown ? <Loading lines={3} /> : alerts.length === 0 && <p className={css.nothing}>Nothing to look at.</p>}
      <ul className={css.list}>
        {alerts.slice(0, MOST_ALERTS).map((alert) => (
          <li key={alert.id}>
            <Link to={`/alerts?alert=${alert.id}`}><SeverityBadge severity={alert.severity} /><p title={printable(alert.message)}>{printable(alert.message)}</p><span className="soft small nowrap">{ago(alert.last, now)}</span></Link>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Rollout({ status }: { status: Status }) {
  const { rollout } = status;
  if (!rollout.version || rollout.total === 0) return null;
  const first = rollout.stage === "done" ? [] : rollout.laggards.slice(0, 5);
  const more = rollout.laggards.length + rollout.more_laggards - first.length;
  return (
    <Card title={`Rollout of version ${rollout.version}`} tools={<Badge tone={rollout.problem ? "bad" : rollout.confirmed === rollout.total ? "good" : "accent"}>{rollout.stage}</Badge>}>
      <div className={css.rollout}>
        <Progress label="Hosts confirmed" value={rollout.confirmed} of={rollout.total} />
        <p className="soft">{count(rollout.confirmed)} of {plural(rollout.total, "host")} confirmed{rollout.problem && `; ${printable(rollout.problem)}`}</p>
        {first.map((one) => (
          <p key={one.uuid} className="small"><Link to={`/workloads?open=${one.uuid}`}>{printable(one.name)}</Link> <span className="soft">{one.state}{one.why && `: ${printable(one.why)}`}</span></p>
        ))}
        {first.length > 0 && more > 0 && <p className="small soft">and {plural(more, "host")} more</p>}
      </div>
    </Card>
  );
}

function Parts({ status, isolated }: { status: Status; isolated: number }) {
  return (
    <Card title="Controller">
      <div className={css.parts}>
        {status.parts.map((part) => <Badge key={part.name} tone={part.state === "ok" ? "good" : part.state === "failed" ? "bad" : "warning"} mark={part.state === "ok" ? "✓" : "!"} title={part.message || part.state}>{part.name}</Badge>)}
        {isolated > 0 && <Badge tone="warning" mark="!">{plural(isolated, "quarantine")} not verified yet</Badge>}
      </div>
    </Card>
  );
}

/** An estate with nobody in it: the ways in, and what each leads to. */
function FirstSteps() {
  return (
    <Begin lead={
      <header className={css.first}>
        <h2>Bring the first host in</h2>
        <p className="soft">Nothing is here yet. Pair a host to see and enforce, or import what you have: a map and a recommended policy come from flow logs and an inventory alone. All of it begins in observe: nothing is dropped.</p>
      </header>
    } />
  );
}
