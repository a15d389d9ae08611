// One edge: what goes over it, between which programs, what decides it, and a rule where none does.

import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { api, told } from "../../api/client";
import { Badge, VerdictBadge } from "../../ui/Badge";
import { Empty, ErrorBox, Fact, Facts, Loading } from "../../ui/Box";
import { Drawer, Section } from "../../ui/Over";
import { useNow } from "../../ui/useNow";
import { ago, brief, count, moment, plural, printable } from "../../words";
import { bodyOf, type EdgeView, type Pen, type Question } from "./asking";
import { keysAt, type Open } from "./chosen";
import css from "./Map.module.css";
import { Proposals } from "./Proposals";
import { LOOKS } from "./verdicts";

interface Props {
  open: Open;
  question: Question;
  by: readonly string[];
  draft: Pen | null;
  /** The draft is what one is writing, and not what somebody proposed. */
  isUnsaved: boolean;
  onClose: () => void;
}

export function EdgeDrawer({ open, question, by, draft, isUnsaved, onClose }: Props) {
  const asked = useQuery({
    queryKey: ["map-edge", open, question, by, draft],
    queryFn: ({ signal }) =>
      told(api.POST("/v1/map/edge", { body: { ...bodyOf(question, Date.now(), draft), by: keysAt(by, open.level), source: open.source, destination: open.destination, source_group: open.from, destination_group: open.to }, signal })) as Promise<EdgeView>,
    staleTime: 20_000, retry: false,
  });
  const edge = asked.data;
  return (
    <Drawer title={edge ? <>{printable(open.source || edge.source)} <span className="soft">→</span> {printable(open.destination || edge.destination)}</> : "Edge"} about={edge && <span className="soft">{plural(edge.connections, "connection")}, {edge.bytes > 0 && `${bytes(edge.bytes)}, `}between {plural(edge.pairs, "pair")} of ends</span>} onClose={onClose}>
      {asked.error ? <ErrorBox error={asked.error} onRetry={() => void asked.refetch()} /> : edge ? <Details edge={edge} isDraft={draft !== null} isUnsaved={isUnsaved} /> : <Loading />}
    </Drawer>
  );
}

/** 0: whoever told of it does not count them. */
export const bytes = (n: number): string => (n ? `${brief(n)}B` : "–");

function Details({ edge, isDraft, isUnsaved }: { edge: EdgeView; isDraft: boolean; isUnsaved: boolean }) {
  const now = useNow();
  if (edge.uses.length === 0) return <Empty icon="search" title="Nothing was seen between them"><p>Not in this time, and not with these labels, service and verdict.</p></Empty>;
  return (
    <>
      {edge.uncovered > 0 && <Proposals proposals={edge.proposals} whyNot={edge.why_not} uncovered={edge.uncovered} isDraft={isDraft} mayWrite={!isDraft || isUnsaved} />}
      <Section title="Services and programs" tools={edge.more_uses > 0 && <span className="soft">and {count(edge.more_uses)} more</span>}>
        <ul className={css.uses}>{edge.uses.map((use, at) => <Use key={at} use={use} now={now} />)}</ul>
      </Section>
      <Section title={edge.rules.length ? "Decided by" : "Decided by no rule"}>
        {edge.rules.length === 0 && <p className="soft">What is not allowed by a rule is stopped once its end enforces.</p>}
        <ul className={css.rules}>
          {edge.rules.map((rule) => (
            <li key={`${rule.rule} ${rule.is_draft}`}>
              <span><Badge tone={rule.action === "allow" ? "good" : "bad"}>{rule.action}</Badge> <Link to={`/policies?${new URLSearchParams({ file: rule.file, line: String(rule.line) })}`}>{printable(rule.rule)}</Link>{isDraft && rule.is_draft && <> <Badge tone="accent">draft</Badge></>}</span>
              <span className="number">{plural(rule.connections, "connection")}</span>
              <small>{printable(rule.file)}:{rule.line}{rule.because && ` · ${printable(rule.because)}`}</small>
            </li>
          ))}
        </ul>
      </Section>
      <Section title="When">
        <Facts>
          <Fact name="First seen">{edge.first ? <span title={moment(edge.first)}>{ago(edge.first, now)}</span> : "–"}</Fact>
          <Fact name="Last seen">{edge.last ? <span title={moment(edge.last)}>{ago(edge.last, now)}</span> : "–"}</Fact>
        </Facts>
      </Section>
      <Section title="Who talks most"><ul className={css.talkers}>{edge.talkers.map((pair) => <li key={pair}>{printable(pair)}</li>)}</ul></Section>
    </>
  );
}

const reasons: Record<string, string> = { default: "no rule allows it", allow: "allowed by", deny: "denied by", forbid: "forbidden by", uncontrolled: "neither end is controlled", essential: "essential traffic", quarantine: "one end is in quarantine" };

function Use({ use, now }: { use: EdgeView["uses"][number]; now: number }) {
  const [opened, listened] = [use.source_programs, use.destination_programs].map((names) => names.map(printable).join(", ") || "?");
  const isDrafted = use.draft && use.draft.status !== use.now.status;
  return (
    <li>
      <div>
        <code>{printable(use.service)}</code>{use.service !== use.point && <span className="soft small">{use.point}</span>}
        <VerdictBadge verdict={use.now.status} />
        {isDrafted && use.draft && <><span aria-label="becomes">→</span><VerdictBadge verdict={use.draft.status} /></>}
        <b className="number">{count(use.connections)}</b>
      </div>
      <small>
        {use.now.reason ? (reasons[use.now.reason] ?? use.now.reason) : LOOKS[use.now.status].word}{use.now.status === "unheld" && ", but no agent is there to stop it"} {use.now.rule && <code>{printable(use.now.rule)}</code>}
        {use.source_programs.length + use.destination_programs.length > 0 && <> · {opened} → {listened}</>}
      </small>
      <small>{printable(use.example)} · {use.bytes > 0 && `${bytes(use.bytes)} · `}<span title={`${moment(use.first)} – ${moment(use.last)}`}>{ago(use.last, now)}</span></small>
    </li>
  );
}
