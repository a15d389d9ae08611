// Which application first: how much of its traffic policy knows, what would break, and whether the watch was long enough.

import { Link } from "react-router";
import { useEstateQuery } from "../../shell/query";
import { Badge } from "../../ui/Badge";
import { Card, Empty, ErrorBox, Loading, ShareBar } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { type Column, Table } from "../../ui/Table";
import { brief, count, percent, printable } from "../../words";
import { type Application, applicationsOf } from "./accepting";
import { useApplications, useRecommended } from "./asking";
import css from "./Recommend.module.css";

const controlled = (one: Application): number => one.allowed + one.breaks;

const COLUMNS: readonly Column<Application>[] = [
  { id: "app", name: "Application", width: "24%", by: (one) => one.selector, cell: (one) => <b>{printable(one.selector)}</b> },
  { id: "flows", name: "Connections", width: "112px", isNumber: true, by: (one) => one.connections, cell: (one) => count(one.connections) },
  {
    id: "covered", name: "Covered by rules in force", by: (one) => (controlled(one) ? one.allowed / controlled(one) : 1),
    cell: (one) => (
      <span className={css.cover}>
        <ShareBar label={one.selector} shares={[{ name: "allowed", value: one.allowed, tone: "good" }, { name: "not allowed", value: one.breaks, tone: "warning" }]} />
        <span className="number">{percent(one.allowed, controlled(one))}</span>
      </span>
    ),
  },
  { id: "breaks", name: "Not allowed", width: "108px", isNumber: true, by: (one) => one.breaks, cell: (one) => (one.breaks ? count(one.breaks) : <span className="soft">–</span>) },
  { id: "rules", name: "Proposed", width: "100px", isNumber: true, isExtra: true, by: (one) => one.rules ?? 0, cell: (one) => (one.rules === null ? "…" : one.rules || <span className="soft">–</span>) },
  { id: "sure", name: "Watched enough", width: "230px", by: (one) => (one.confidence?.verdict === "ready" ? 0 : 1 + (one.confidence?.why_not.length ?? 9)), cell: (one) => <Trusted of={one} /> },
];

function Trusted({ of: { confidence, rules, breaks } }: { of: Application }) {
  if (breaks === 0) return <Badge tone="good" mark="✓" title="Rules in force allow all that was seen.">nothing missing</Badge>;
  if (!confidence) return <span className="soft" title="No rule is proposed in its own policy: what is not allowed is noise, or goes to others, whose policies would allow it.">{rules === null ? "…" : "noise, or for others to allow"}</span>;
  if (confidence.verdict === "ready") return <Badge tone="good" mark="✓">ready</Badge>;
  return <span title={confidence.why_not.join("; ")}><Badge tone="warning" mark="!">not yet</Badge> <span className="soft small">{confidence.why_not[0]}</span></span>;
}

export function Applications({ onChoose }: { onChoose: (selector: string) => void }) {
  const { where } = useEstateQuery();
  const counted = useApplications();
  const told = useRecommended({ app: "", level: "port", tight: 5 });
  if (counted.error) return <ErrorBox error={counted.error} onRetry={() => void counted.refetch()} />;
  if (!counted.data) return <Loading lines={8} />;
  const rows = applicationsOf(counted.data, told.data).filter((one) => one.connections > 0);
  if (rows.length === 0) return <Card><NothingSeen /></Card>;
  const open = rows.filter((one) => one.breaks > 0).length;
  return (
    <div className={css.choose}>
      <p className={css.lead}>
        <span>{open ? `${count(open)} of ${count(rows.length)} applications have traffic that no rule allows: ${brief(rows.reduce((sum, one) => sum + one.breaks, 0))} connections.` : "Rules in force allow all that was seen."}</span>
        {where && <Button icon="bulb" onClick={() => onChoose(where)}>For {printable(where)}</Button>}
        <Button onClick={() => onChoose("")}>For the whole estate</Button>
      </p>
      {told.error && <ErrorBox error={told.error} onRetry={() => void told.refetch()} />}
      <div className={css.sheet}>
        <Table label="Applications" rows={rows} columns={COLUMNS} idOf={selectorOf} nameOf={selectorOf} order={{ id: "breaks", isDown: true }} onOpen={(one) => onChoose(one.selector)} />
      </div>
    </div>
  );
}

const selectorOf = (one: Application): string => one.selector;

function NothingSeen() {
  return (
    <Empty icon="bulb" title="Nothing was seen that a policy could be made of" actions={<Link to="/setup">Bring traffic in</Link>}>
      <p>Rules are recommended from traffic between labelled workloads. Pair a host, import flow logs with an inventory, or load the demo estate.</p>
    </Empty>
  );
}
