// The way to one group, step by step; each step with both ends' verdicts and the rules they say so by.

import { useMemo, useState } from "react";
import { Link } from "react-router";
import { type Pen, useUnderDraft } from "../../parts/under";
import { Explanation } from "../../parts/Explanation";
import type { Draft } from "../../parts/inForce";
import { Badge } from "../../ui/Badge";
import { Empty, Fact, Facts, Loading } from "../../ui/Box";
import { Drawer, Section } from "../../ui/Over";
import { count, plural, printable } from "../../words";
import type { BlastView } from "./asking";
import { groupsOf, pathTo, type Step } from "./columns";
import css from "./Reach.module.css";

export function PathDrawer({ view, who, pen, onClose }: { view: BlastView; who: string; pen: Pen | null; onClose: () => void }) {
  const groups = useMemo(() => groupsOf(view.in_force, view.draft), [view]);
  const one = groups.find((each) => each.who === who);
  const drafted = useUnderDraft(pen);
  const isDraft = pen !== null;
  const steps = useMemo(() => pathTo(groups, who, view.way, view.of), [groups, who, view.way, view.of]);
  if (!one) return <Drawer title={printable(who)} onClose={onClose}><Empty icon="reach" title="It is not reached"><p>Under these policies there is no way between them any more.</p></Empty></Drawer>;
  const isLost = one.difference === "lost";
  return (
    <Drawer title={printable(who)} about={<span className={css.about}>{one.jewels.map((jewel) => <Badge key={jewel} tone="bad" mark="◆">{printable(jewel)}</Badge>)}<Badge>{plural(one.hop, "hop")}</Badge>{isLost && <Badge mark="−">no more under the draft</Badge>}{one.difference === "gained" && <Badge tone="warning" mark="+">new under the draft</Badge>}</span>} onClose={onClose}>
      <Facts>
        <Fact name="Workloads">{one.isBare ? <>none: addresses that nobody of ours holds{one.example && <>, such as <code>{one.example}</code></>}</> : <Link to={`/workloads?${new URLSearchParams({ where: who })}`}>{count(one.workloads)}</Link>}</Fact>
        <Fact name="Services"><span className="mono">{one.services.map(printable).join(", ")}</span></Fact>
      </Facts>
      <Section title={`The way there, ${isDraft && !isLost ? "under the draft" : "in force"}, all of it enforced`}>
        <ol className={css.steps}>
          {steps.map((step, index) => <StepOf key={`${step.from} ${step.to}`} step={step} number={index + 1} under={isDraft && !isLost ? drafted : undefined} />)}
        </ol>
      </Section>
    </Drawer>
  );
}

function StepOf({ step, number, under }: { step: Step; number: number; under: Draft | null | undefined }) {
  const [service, setService] = useState(step.services[0] ?? "");
  return (
    <li>
      <p className={css.step}><b>{number}</b><span>{printable(step.from)} → {printable(step.to)}</span></p>
      {step.services.length > 1 && <p className={css.chips}>{step.services.slice(0, 12).map((one) => <button key={one} type="button" className={css.pick} aria-pressed={one === service} onClick={() => setService(one)}>{printable(one)}</button>)}</p>}
      {under === null ? <Loading lines={2} /> : <Explanation of={{ ...step.asked, service }} asMode="enforce" {...(under && { under })} />}
    </li>
  );
}
