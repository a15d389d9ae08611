// `ringfence.toml`: the settings of the estate, checked as they are written, planned and applied as policies are.

import { useMemo, useState } from "react";
import { useStatus } from "../../api/queries";
import { Badge } from "../../ui/Badge";
import { Card, Diff, Empty, ErrorBox, Loading, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { printable } from "../../words";
import { type InForce, useInForce, usePlan, useSettled } from "../policies/asked";
import { PLAN_DAYS } from "../policies/Foreseen";
import { folded, lines } from "../policies/lines";
import { PlanView } from "../policies/PlanView";
import { useSettingsChecked } from "./asking";
import { SettingsDialog } from "./SettingsDialog";
import css from "./Setup.module.css";

const PAUSE_MS = 500;
const EXAMPLE = `# [[failsafe]]
# direction = "in"
# cidr = "10.0.0.0/24"
# service = "ssh"

# [identity]
# ignore = ["build"]
`;

export function Settings() {
  const inForce = useInForce();
  if (!inForce.data) return inForce.error ? <ErrorBox error={inForce.error} onRetry={() => void inForce.refetch()} /> : <Loading lines={8} />;
  return (
    <div className={css.settings}>
      <TwoPeople />
      {inForce.data.number === 0 ? <Card><Empty icon="policy" title="Settings come with the first policy"><p>They are part of a version: apply a policy first, then change them here.</p></Empty></Card> : <Editor base={inForce.data} />}
    </div>
  );
}

function TwoPeople() {
  const status = useStatus().data;
  if (!status) return null;
  return (
    <Note>
      {status.needs_approval ? <><b>Two people are needed</b> for a change of policies or settings: one proposes, another with the role approver decides.</> : <><b>One person is enough</b> for a change of policies or settings.</>}
      {" "}It is set where the controller is started: <code>--needs-approval</code>, or <code>needs_approval</code> in <code>controller.toml</code>. Quarantine and the way back wait for nobody.
    </Note>
  );
}

function Editor({ base }: { base: InForce }) {
  const [begun, begin] = useState(base);
  const [text, setText] = useState(base.settings);
  const [isApplying, setApplying] = useState(false);
  const settled = useSettled(text, PAUSE_MS);
  const checked = useSettingsChecked(settled, settled !== base.settings);
  const isChanged = text !== begun.settings;
  const isMoved = base.settings !== begun.settings;
  if (!isChanged && isMoved) (begin(base), setText(base.settings));
  const wrong = checked.data?.findings.filter((one) => one.where?.file === "ringfence.toml") ?? [];
  const isSound = wrong.every((one) => one.severity !== "error");
  const wanted = useMemo(() => ({ ...base, settings: settled }), [base, settled]);
  const plan = usePlan(wanted, base.files, PLAN_DAYS, settled !== base.settings && isSound && checked.data !== undefined);
  const change = folded(lines(base.settings, text));
  return (
    <div className={css.twoCards}>
      <Card
        title={<>ringfence.toml {isChanged && <Badge tone="accent" mark="~">draft</Badge>}</>}
        tools={
          <>
            {isChanged && <Button isTight look="quiet" icon="undo" onClick={() => (begin(base), setText(base.settings))}>Discard</Button>}
            <Button isTight look="primary" needs="guardrail" over={{ scopes: [null] }} disabled={!isChanged || isMoved || !isSound || !plan.data || settled !== text} onClick={() => setApplying(true)}>Apply…</Button>
          </>
        }
      >
        {isMoved && isChanged && (
          <div className={css.moved} role="status">
            <p><b>Version {base.number}</b>{base.actor && <> by {printable(base.actor)}</>} changed the settings after you began.</p>
            <Button isTight onClick={() => (begin(base), setText(base.settings))}>Take theirs</Button>
            <Button isTight onClick={() => begin(base)}>Keep mine</Button>
          </div>
        )}
        <textarea className={css.toml} aria-label="Text of ringfence.toml" spellCheck={false} autoComplete="off" rows={16} placeholder={EXAMPLE} value={text} onChange={(event) => setText(event.target.value)} />
        <p className="soft small">What always passes, which labels make no identity, how long flows are kept.</p>
        {checked.error && <ErrorBox error={checked.error} />}
        {wrong.length > 0 && (
          <ul className={css.wrongs} aria-label="What is wrong">
            {wrong.map((one, index) => <li key={index}><b>{one.where?.line ? `Line ${one.where.line}: ` : ""}{printable(one.message)}</b>{one.help && <small>{printable(one.help)}</small>}<code className="soft">{one.code}</code></li>)}
          </ul>
        )}
      </Card>
      <Card title="What it would do">
        {!isChanged ? <Empty icon="pulse" title="Nothing is planned"><p>Change a setting, and this tells what opens, what closes and what would stop.</p></Empty> : !isSound ? <Note>The plan waits until the settings can be read.</Note> : plan.error ? <ErrorBox error={plan.error} onRetry={() => void plan.refetch()} /> : !plan.data ? <Loading lines={5} /> : <div className={css.planned}><Diff lines={change} /><PlanView of={plan.data} /></div>}
      </Card>
      {isApplying && plan.data && <SettingsDialog base={base} text={text} plan={plan.data} since={plan.dataUpdatedAt} onAgain={() => void plan.refetch()} onClose={() => setApplying(false)} />}
    </div>
  );
}
