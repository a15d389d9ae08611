// Every rule in force and what it is used for: those that could be tightened first.

import { useMemo } from "react";
import type { Rule } from "../../api/types";
import { Badge, type Tone } from "../../ui/Badge";
import { Choice, Empty, ErrorBox, Loading, Progress } from "../../ui/Box";
import { LiveFilter, Select } from "../../ui/Field";
import { type Column, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { ago, brief, count, moment, plural, printable } from "../../words";
import { useRules } from "./asked";
import { usePlace } from "./place";
import css from "./Policies.module.css";
import { RuleDrawer } from "./RuleDrawer";
import { isSlack, ruleText } from "./words";

const DAYS = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["365", "A year"]] as const;
export const ACTION: Record<Rule["action"], { tone: Tone; mark: string }> = { allow: { tone: "good", mark: "✓" }, deny: { tone: "warning", mark: "–" }, forbid: { tone: "bad", mark: "✕" } };

const columnsAt = (now: number): readonly Column<Rule>[] => [
  { id: "rule", name: "Rule", width: "22%", by: (one) => one.rule, cell: (one) => <><span className="soft">{printable(one.policy)}/</span><b>{printable(one.name)}</b></> },
  { id: "action", name: "Action", width: "88px", by: (one) => one.action, cell: (one) => <Badge {...ACTION[one.action]}>{one.action}</Badge> },
  { id: "text", name: "Who to whom", by: (one) => ruleText(one), cell: (one) => <span title={printable(ruleText(one))}>{printable(ruleText(one))}</span> },
  { id: "hits", name: "Hits", width: "86px", isNumber: true, by: (one) => one.connections, cell: (one) => one.connections === 0 ? <Badge tone={one.action === "allow" ? "warning" : "plain"} mark={one.action === "allow" ? "!" : undefined}>none</Badge> : <span title={count(one.connections)}>{brief(one.connections)}</span> },
  { id: "last", name: "Last hit", width: "104px", isExtra: true, by: (one) => (one.last ? -Date.parse(one.last) : Infinity), cell: (one) => <span className="soft" title={one.last ? moment(one.last) : undefined}>{one.last ? ago(one.last, now) : "never"}</span> },
  { id: "use", name: "Used of what it permits", width: "168px", by: (one) => one.utilisation ?? 2, cell: (one) => <Use of={one} /> },
];

function Use({ of }: { of: Rule }) {
  if (of.utilisation === null) return <span className="soft">open ended</span>;
  const share = Math.round(100 * of.utilisation);
  return <span className={css.use}><Progress label={`Used ${share} %`} value={share} of={100} /><span>{share} %</span></span>;
}

export function Rules() {
  const place = usePlace();
  const days = Number(place.get("days")) || 30;
  const asked = useRules(days);
  const now = useNow(30_000);
  const columns = useMemo(() => columnsAt(now), [now]);
  const text = place.get("text");
  const isQueue = place.get("slack") === "only";
  const all = asked.data?.rules;
  const rows = useMemo(() => (all ?? []).filter((one) => (!isQueue || isSlack(one)) && (!text || `${one.rule} ${ruleText(one)} ${one.because}`.toLowerCase().includes(text.toLowerCase()))), [all, isQueue, text]);
  const slack = useMemo(() => (all ?? []).filter(isSlack).length, [all]);
  const opened = all?.find((one) => one.rule === place.get("rule"));
  if (!all) return asked.error ? <ErrorBox error={asked.error} onRetry={() => void asked.refetch()} /> : <Loading lines={10} />;
  if (all.length === 0) return <Empty icon="shield" title="No rule is in force"><p>Rules come with policies. Once one is applied, this tells how often each decides, when it last did, and how much of what it permits is ever used.</p></Empty>;
  return (
    <div className={css.withBar}>
      <div className={css.bar}>
        <Choice label="Which rules" values={[{ id: "", name: `All ${count(asked.data?.total ?? 0)}` }, { id: "only", name: `To be tightened ${count(slack)}` }]} chosen={isQueue ? "only" : ""} onChoose={(id) => place.put({ slack: id })} />
        <LiveFilter name="Rule, end or service" value={text} onType={(next) => place.put({ text: next })} />
        <Select name="Traffic of" isTight values={DAYS} value={String(days)} onChange={(event) => place.put({ days: event.target.value === "30" ? "" : event.target.value })} />
        {(asked.data?.truncated ?? 0) > 0 && <span className="soft">and {plural(asked.data?.truncated ?? 0, "rule")} that are used more</span>}
      </div>
      <div className={css.split}>
        {rows.length === 0 ? (
          <Empty icon="check" title={isQueue && !text ? "Nothing to tighten" : "No rule is like that"}><p>{isQueue && !text ? "Every allow is used, by most of those it is about." : "No rule meets what is asked for."}</p></Empty>
        ) : (
          <Table label="Rules" rows={rows} columns={columns} idOf={(one) => one.rule} nameOf={(one) => printable(one.rule)} opened={opened?.rule} onOpen={(one) => place.put({ rule: one.rule === opened?.rule ? "" : one.rule })} />
        )}
        {opened && <RuleDrawer key={opened.rule} rule={opened} days={days} now={now} onClose={() => place.put({ rule: "" })} onText={() => place.go("policies", { file: opened.file, line: String(opened.line) })} />}
      </div>
    </div>
  );
}
