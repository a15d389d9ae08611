// What is recommended for one application: its rules, what would stop under those accepted, what was set aside, the text.

import { useDeferredValue, useMemo } from "react";
import { Card, Empty, ErrorBox, Loading, Tabs } from "../../ui/Box";
import { count, percent, plural } from "../../words";
import { acceptedOf, type Choice, choiceOf, choiceText, type Covered, coveredBy, flipped } from "./accepting";
import { type Recommended, useRecommended, type Wanted } from "./asking";
import { Breaks } from "./Breaks";
import { Findings, Leftovers } from "./Leftovers";
import type { Put } from "../../shell/address";
import css from "./Recommend.module.css";
import { Rules } from "./Rules";
import { Files, HandOver, Take } from "./Text";
import { Trust } from "./Trust";

const TABS = [["rules", "Rules"], ["breaks", "What would stop"], ["aside", "Set aside"], ["text", "As text"]] as const;
type Tab = (typeof TABS)[number][0];

export function Proposal({ wanted, search, put }: { wanted: Wanted; search: URLSearchParams; put: Put }) {
  const found = useRecommended(wanted);
  const choice = useMemo(() => choiceOf(search), [search]);
  const choose = (next: Choice): void => put(choiceText(next));
  if (found.error) return <ErrorBox error={found.error} onRetry={() => void found.refetch()} />;
  if (!found.data) return <Loading lines={10} />;
  const told = found.data;
  if (told.rules.length === 0) return <Nothing told={told} />;
  const covered = coveredBy(told, choice);
  const tab = TABS.find(([id]) => id === search.get("tab"))?.[0] ?? "rules";
  const aside = told.set_aside.length + told.uncovered.length;
  const counts: Partial<Record<Tab, number>> = { rules: told.rules.length, aside };
  return (
    <div className={css.grid}>
      <CoverageBar covered={covered} of={told.rules.length} />
      <div className={css.column}>
        <Tabs
          label="What is proposed" panel="proposal" chosen={tab} onChoose={(id) => put({ tab: id === "rules" ? "" : id })}
          tabs={TABS.map(([id, name]) => ({ id, name, ...(counts[id] !== undefined && { count: counts[id] }) }))}
        />
        <div id="proposal" role="tabpanel" aria-label={TABS.find(([id]) => id === tab)?.[1]} className={css.panel}>
          {tab === "rules" && <Rules told={told} choice={choice} covered={covered} opened={search.get("rule") ?? ""} onOpen={(rule) => put({ rule })} onFlip={(rule) => choose(flipped(choice, rule))} onAll={(isAll) => choose({ isAll, but: new Set() })} />}
          {tab === "aside" && <Leftovers told={told} />}
          {(tab === "breaks" || tab === "text") && <Chosen wanted={wanted} told={told} choice={choice} tab={tab} search={search} put={put} />}
        </div>
      </div>
      <aside className={css.column} aria-label="How far to trust it">
        <Trust told={told} />
        <Findings told={told} />
      </aside>
      <Take wanted={wanted} told={told} choice={choice} covered={covered} />
    </div>
  );
}

/** The files of the rules that are accepted: the controller writes them, so that their tests are those they fulfil. */
function Chosen({ wanted, told, choice, tab, search, put }: { wanted: Wanted; told: Recommended; choice: Choice; tab: "breaks" | "text"; search: URLSearchParams; put: Put }) {
  const accept = useMemo(() => acceptedOf(told, choice), [told, choice]);
  const isAll = accept === null;
  const settled = useDeferredValue(accept);
  const some = useRecommended(wanted, settled, !isAll);
  const files = isAll ? told.files : some.data?.files;
  const broken = (isAll ? told : some.data)?.broken ?? [];
  if (some.error && !isAll) return <ErrorBox error={some.error} onRetry={() => void some.refetch()} />;
  if (!files) return <Loading lines={6} />;
  if (tab === "breaks") return <Breaks where={wanted.app} files={files} days={told.confidence.calendar.span_days} search={search} put={put} />;
  return (
    <>
      <HandOver files={files} broken={broken} />
      <Files files={files} />
    </>
  );
}

/** It moves as rules are accepted; each part has its own pattern and its own words. */
function CoverageBar({ covered, of }: { covered: Covered; of: number }) {
  const { wanted, inForce, accepted, rejected, left, rules } = covered;
  const parts = [
    { id: "inForce", name: "by rules in force", value: inForce }, { id: "accepted", name: `by ${count(rules)} of ${plural(of, "proposed rule")}`, value: accepted },
    { id: "rejected", name: "not accepted", value: rejected }, { id: "gap", name: "no rule can be proposed", value: left },
  ] as const;
  const told = `${percent(inForce + accepted, wanted)} of the connections that call for a rule have one`;
  return (
    <section className={css.coverage} aria-label="Coverage">
      <p aria-live="polite"><b>{percent(inForce + accepted, wanted)}</b><span>of {plural(wanted, "connection")} that call for a rule {wanted === 1 ? "has" : "have"} one</span></p>
      <div className={css.bar} role="img" aria-label={told}>
        {parts.filter((one) => one.value > 0).map((one) => <i key={one.id} className={css[one.id]} style={{ flexGrow: one.value }} title={`${count(one.value)} ${one.name}`} />)}
      </div>
      <ul>{parts.filter((one) => one.value > 0).map((one) => <li key={one.id}><i className={css[one.id]} /><b>{percent(one.value, wanted)}</b> {one.name}</li>)}</ul>
    </section>
  );
}

function Nothing({ told }: { told: Recommended }) {
  const { uncovered, already_allowed: allowed } = told.coverage;
  return (
    <div className={css.column}>
      <Card>
        <Empty icon="bulb" title={uncovered ? "No rule can be proposed yet" : "Nothing is missing"}>
          <p>{uncovered ? "What was seen cannot be put into rules: below is why, and what to do." : allowed ? `Rules in force allow all ${plural(allowed, "connection")} that were seen.` : "No traffic of these workloads was seen."}</p>
        </Empty>
      </Card>
      <Leftovers told={told} />
      <Findings told={told} />
    </div>
  );
}
