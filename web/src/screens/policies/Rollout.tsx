// The version on its way: at which stage, which hosts do not have it yet and why, on and back.

import { useMutation } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Link } from "react-router";
import { api, told } from "../../api/client";
import type { Rollout, Standing } from "../../api/types";
import { useKeeping } from "../../shell/query";
import { Badge, type Tone } from "../../ui/Badge";
import { Card, Empty, ErrorBox, Loading, Progress, Stat } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area } from "../../ui/Field";
import { Dialog, say } from "../../ui/Over";
import { type Column, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { count, percent, plural, printable } from "../../words";
import { type InForce, lookAgain, useRollout, useVersion, useVersions } from "./asked";
import { between } from "./Changes";
import { usePlace } from "./place";
import css from "./Policies.module.css";
import { RollbackDialog } from "./RollbackDialog";
import { overOf } from "./scopes";
import { stagesOf, standingOf, storyOf } from "./stages";

const STATES: Record<string, { tone: Tone; mark: string }> = {
  confirmed: { tone: "good", mark: "✓" },
  trial: { tone: "accent", mark: "…" }, pending: { tone: "plain", mark: "…" }, offline: { tone: "warning", mark: "!" }, refused: { tone: "bad", mark: "✕" }, reverted: { tone: "bad", mark: "↩" },
};
const RANK: Record<string, number> = { reverted: 0, refused: 1, offline: 2, trial: 3, pending: 4 };

const COLUMNS: readonly Column<Standing>[] = [
  { id: "host", name: "Host", width: "28%", by: (one) => one.name, cell: (one) => <HostLink of={one} /> },
  { id: "state", name: "State", width: "130px", by: (one) => RANK[one.state] ?? 9, cell: (one) => <State of={one} /> },
  { id: "why", name: "Why", by: (one) => one.why, cell: (one) => <span title={printable(one.why)}>{printable(one.why)}</span> },
];

const State = ({ of }: { of: Standing }) => <Badge {...(STATES[of.state] ?? { tone: "plain" })}>{of.state}</Badge>;

function HostLink({ of }: { of: Standing }) {
  const keeping = useKeeping();
  return <Link to={keeping(`/workloads?open=${of.uuid}`)}>{printable(of.name)}</Link>;
}

export function RolloutPage({ base }: { base: InForce }) {
  const asked = useRollout();
  if (!asked.data) return asked.error ? <ErrorBox error={asked.error} onRetry={() => void asked.refetch()} /> : <Loading lines={6} />;
  if (asked.data.version === 0) return <Card><Empty icon="pulse" title="Nothing was rolled out yet"><p>Apply a policy, and this shows which hosts have it, which do not and why.</p></Empty></Card>;
  return <Shown rollout={asked.data} base={base} />;
}

function Shown({ rollout, base }: { rollout: Rollout; base: InForce }) {
  const keeping = useKeeping();
  const place = usePlace();
  const { stage, version, confirmed, total, laggards, behind = {}, more_laggards: more = 0 } = rollout;
  const [stages, standing] = [stagesOf(rollout), standingOf(rollout)];
  const isUnderway = stage === "canary" || stage === "spreading";
  const failed = (behind.reverted ?? 0) + (behind.refused ?? 0);
  const offline = behind.offline ?? 0;
  return (
    <div className={css.rollout}>
      <Card title={<>Version {version} <Badge tone={standing[0]} mark={MARKS[standing[0]]}>{standing[1]}</Badge></>} tools={<Steer rollout={rollout} base={base} isUnderway={isUnderway} />}>
        {stages.length > 0 && (
          <ol className={css.steps} aria-label="Stages">
            {stages.map((step) => <li key={step.id} data-state={step.state} aria-current={step.state === "now" ? "step" : undefined}>{step.name}</li>)}
          </ol>
        )}
        <p>{storyOf(rollout)} {rollout.problem && <b>{printable(rollout.problem)}</b>}</p>
        {total > 0 && <div className={css.progress}><Progress label="Hosts that read it back" value={confirmed} of={total} /><span>{percent(confirmed, total)}</span></div>}
      </Card>
      {stage === "canary" && <Canary rollout={rollout} />}
      <Card isFlush>
        <div className={css.stats}>
          <Stat name="Have it" value={count(confirmed)} of={count(total)} hint="read back from the kernel" tone={total > 0 && confirmed === total ? "good" : undefined} to={keeping("/workloads?state=realised")} />
          <Stat name="Went back or refused" value={count(failed)} hint="they keep what they had" tone={failed ? "bad" : undefined} to={keeping("/workloads?state=refused")} />
          <Stat name="Not heard" value={count(offline)} hint="they keep what they have" tone={offline ? "warning" : undefined} to={keeping("/workloads?state=unreachable")} />
          <Stat name="Not yet" value={count(laggards.length + more - failed - offline)} hint={stage === "stopped" ? "they keep the version before" : "on trial, or their turn is to come"} to={keeping("/workloads?state=pending")} />
        </div>
      </Card>
      <section className={css.laggards} aria-label="Hosts that do not have it">
        {total === 0 ? <NoHost /> : laggards.length === 0 ? <Empty icon="check" title="Every host has it"><p>Read back from the kernel of {plural(total, "host")}. <button type="button" className={css.link} onClick={() => place.go("versions")}>See the history</button></p></Empty> : <Table label="Laggards" rows={laggards} columns={COLUMNS} idOf={(one) => one.uuid} nameOf={(one) => printable(one.name)} order={{ id: "state", isDown: false }} />}
        {more > 0 && <p className="soft">and {plural(more, "host")} more</p>}
      </section>
    </div>
  );
}

const SHOWN = 20;

/** Who goes first, how each is, and how long all of them are well already. */
function Canary({ rollout }: { rollout: Rollout }) {
  const { first, canary, soak_s: soak, well_since: since } = rollout;
  const now = useNow(1000);
  const isWell = first.every((one) => one.state === "confirmed" || one.state === "offline");
  const well = since ? Math.min(soak, Math.max(0, Math.floor((now - Date.parse(since)) / 1000))) : 0;
  return (
    <Card title="Goes first">
      <ul className={css.canary} aria-label="Canary">
        {first.slice(0, SHOWN).map((one) => <li key={one.uuid}><HostLink of={one} /><State of={one} /><span className="soft">{printable(one.why)}</span></li>)}
      </ul>
      {canary > SHOWN && <p className="soft">and {plural(canary - SHOWN, "host")} more</p>}
      <p className="soft">{since ? `Well for ${well} of ${soak} s; then everybody gets it.` : isWell ? `All of them are well: the ${soak} s begin.` : `Not all of them are well yet; the ${soak} s begin when they are.`}</p>
      {since && <div className={css.progress}><Progress label="Seconds that the canary is well" value={well} of={soak} /><span>{well} s</span></div>}
    </Card>
  );
}

const MARKS: Partial<Record<Tone, string>> = { good: "✓", bad: "✕", accent: "…", warning: "!", plain: "○" };

/** A version that nobody holds is no success. */
function NoHost() {
  const keeping = useKeeping();
  return (
    <Empty icon="server" title="No host holds it yet" actions={<Link to={keeping("/setup?do=host")}>Pair a host</Link>}>
      <p>Policy is enforced by an agent on each host. Workloads of an inventory or of flow logs are known, and nothing there enforces; the first host that is paired gets this version at once.</p>
    </Empty>
  );
}

function Steer({ rollout, base, isUnderway }: { rollout: Rollout; base: InForce; isUnderway: boolean }) {
  const [doing, setDoing] = useState<"on" | "back" | "stop" | null>(null);
  const before = useVersions(0).data?.find((one) => one.number === rollout.version)?.parent ?? null;
  const old = useVersion(before).data;
  const over = useMemo(() => (old ? overOf(between(old.files, base.files)) : undefined), [old, base]);
  const canGoOn = rollout.stage === "canary" || rollout.stage === "stopped";
  return (
    <>
      {isUnderway && <Button isTight needs="rollout" over={over} look="danger" icon="stop" onClick={() => setDoing("stop")}>Stop…</Button>}
      {before !== null && before > 0 && <Button isTight needs="publish" over={over} look={rollout.stage === "stopped" ? "danger" : "plain"} icon="undo" onClick={() => setDoing("back")}>Roll back…</Button>}
      {canGoOn && <Button isTight needs="rollout" over={over} onClick={() => setDoing("on")}>Go on to everybody</Button>}
      {doing === "stop" && <Stop rollout={rollout} before={before} onClose={() => setDoing(null)} />}
      {doing === "on" && <GoOn rollout={rollout} onClose={() => setDoing(null)} />}
      {doing === "back" && before !== null && <RollbackDialog base={base} to={before} onClose={() => setDoing(null)} />}
    </>
  );
}

function Stop({ rollout, before, onClose }: { rollout: Rollout; before: number | null; onClose: () => void }) {
  const [why, setWhy] = useState("");
  const stop = useMutation({
    mutationFn: () => told(api.POST("/v1/rollout/stop", { body: { why: why.trim() } })),
    onSuccess: () => {
      say("Stopped: every host goes back");
      void lookAgain();
      onClose();
    },
  });
  const former = before ? `version ${before}` : "no policy, as before version 1";
  return (
    <Dialog
      title={`Stop version ${rollout.version}`} about={`Every host that took it goes back to ${former}, at once. The version stays in the history: mend it, go on with it, or roll back.`} onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="danger" icon="stop" isBusy={stop.isPending} onClick={() => stop.mutate()}>Stop</Button></>}
    >
      <Area name="Why" help="Stands in the audit log." value={why} onChange={(event) => setWhy(event.target.value)} />
      {stop.error && <ErrorBox error={stop.error} />}
    </Dialog>
  );
}

function GoOn({ rollout, onClose }: { rollout: Rollout; onClose: () => void }) {
  const go = useMutation({
    mutationFn: () => told(api.POST("/v1/rollout/go-on", {})),
    onSuccess: () => {
      say("Every host is told now");
      void lookAgain();
      onClose();
    },
  });
  const rest = rollout.total - rollout.confirmed;
  return (
    <Dialog title="Go on to everybody" about={`Version ${rollout.version} goes to ${plural(rest, "more host", "more hosts")}, whatever the canary says.`} onClose={onClose} foot={<><Button onClick={onClose}>Cancel</Button><Button look={rollout.stage === "stopped" ? "danger" : "primary"} isBusy={go.isPending} onClick={() => go.mutate()}>Go on</Button></>}>
      <p>{rollout.problem ? <>It was stopped: <b>{printable(rollout.problem)}</b>. Hosts that cannot take it keep what they have.</> : `The canary has not been well for ${rollout.soak_s} s yet.`}</p>
      {go.error && <ErrorBox error={go.error} />}
    </Dialog>
  );
}
