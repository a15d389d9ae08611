// A plan in words: connections opened and closed, traffic that would stop, who is connected, what cannot be expressed.

import type { ReactNode } from "react";
import { Link } from "react-router";
import type { Finding, Planned } from "../../api/types";
import { Impact } from "../../parts/Impact";
import { useKeeping } from "../../shell/query";
import { Badge } from "../../ui/Badge";
import { Fact, Facts, Note } from "../../ui/Box";
import { Section } from "../../ui/Over";
import { count, plural, printable } from "../../words";
import css from "./Policies.module.css";

const FAILING = new Set(["test-failed", "test-unmatched"]);

/** Tests that keep a plan from being applied. */
export const failingIn = (plan: Planned): Finding[] => plan.findings.filter((one) => FAILING.has(one.code));

export function PlanView({ of }: { of: Planned }) {
  const keeping = useKeeping();
  const warnings = of.findings.filter((one) => !FAILING.has(one.code));
  return (
    <div className={css.plan}>
      <p className="soft">
        Against {of.against ? `version ${of.against}, which hosts have` : "nothing: no host has a policy yet"}. Goes to <Link className={css.inline} to={keeping("/workloads")}>{plural(of.hosts, "host")}</Link>.
        {of.settings_changed && <> The settings change, too.</>}
      </p>
      <Removed files={of.files ?? []} />
      <Impact of={{ ...of.diff, findings: failingIn(of), sessions: of.sessions ?? null, impact: of.impact ?? null }} nothing="Nothing opens and nothing closes: every pair of workloads may do what it may do now." />
      {of.refusals.length > 0 && <Section title="Cannot be expressed"><p className="soft">These stay closed on the hosts named; a refused forbid or deny stops the whole change.</p><Told findings={of.refusals} tone="bad" /></Section>}
      {warnings.length > 0 && <Section title="Said about it"><Told findings={warnings} tone="warning" /></Section>}
      <Section title="In use right now">
        <p>{of.sessions ? sessionsText(of.sessions.in_use, of.sessions.cut.length + of.sessions.more) : "Live connections are not known."}</p>
      </Section>
      {of.failsafe.length > 0 && (
        <Section title="Passes whatever policy says">
          <Facts>{of.failsafe.map((one, index) => <Fact key={index} name={one.direction === "in" ? "In from" : "Out to"}><span className="mono">{one.addresses.map(printable).join(", ")}</span> <span className="soft">on {one.services.map(printable).join(", ")}</span></Fact>)}</Facts>
        </Section>
      )}
    </div>
  );
}

/** Policies that somebody made and that this takes away: what they allow closes, and what they forbid opens. */
function Removed({ files }: { files: NonNullable<Planned["files"]> }) {
  const removed = files.filter((one) => one.change === "removed");
  if (removed.length === 0) return null;
  return (
    <Note>
      Removes {removed.map((one, index) => <span key={one.name}>{index > 0 && ", "}<code>{printable(one.name)}</code>{one.by && ` of ${printable(one.by)}${one.version ? `, version ${one.version}` : ""}`}</span>)}.
    </Note>
  );
}

function sessionsText(inUse: number, cut: number): ReactNode {
  if (inUse === 0) return <span className="soft">No connection is in use.</span>;
  return cut === 0 ? <>{plural(inUse, "kind")} of connection in use; all of them go on.</> : <><b>{count(cut)} of {count(inUse)}</b> kinds of connection in use are against the new policy: how they end is chosen when it is applied.</>;
}

function Told({ findings, tone }: { findings: readonly Finding[]; tone: "bad" | "warning" }) {
  return (
    <ul className={css.told}>
      {findings.map((one, index) => (
        <li key={index}>
          <Badge tone={one.severity === "info" ? "plain" : tone} mark={tone === "bad" ? "✕" : "!"}><span className="hidden">{one.severity}</span></Badge>
          <div>
            <p>{printable(one.message)}</p>
            {one.help && <p className="soft">{printable(one.help)}</p>}
            <p className={css.where}><span className="soft">{one.where?.file && `${printable(one.where.file)}:${one.where.line}`}</span><code className="soft">{one.code}</code></p>
          </div>
        </li>
      ))}
    </ul>
  );
}

