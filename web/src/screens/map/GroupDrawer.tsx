// One box of the map: who is in it, how it is held, and what it talks to, unprotected first.

import { Link } from "react-router";
import { Badge } from "../../ui/Badge";
import { Fact, Facts } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Drawer, Section } from "../../ui/Over";
import { count, plural, printable } from "../../words";
import type { MapNode, MapView } from "./asking";
import type { Bundle, Level } from "./bundles";
import { about } from "./labels";
import { Line } from "./Legend";
import css from "./Map.module.css";
import { isWithin, trail, type Tree } from "./tree";
import { LOOKS, STATUSES } from "./verdicts";

const MOST = 60;

interface Props {
  box: number;
  tree: Tree;
  nodes: readonly MapNode[];
  view: MapView;
  /** Lines with boxes open down to its depth. */
  level: Level;
  isDraft: boolean;
  onLine: (line: Bundle) => void;
  onBox: (box: number) => void;
  onFly: () => void;
  onClose: () => void;
}

export function GroupDrawer({ box, tree, nodes, level, isDraft, onLine, onBox, onFly, onClose }: Props) {
  const one = tree.boxes[box];
  if (!one) return null;
  const { workload } = one;
  const inside = tree.boxes.flatMap((each, at) => (each.node >= 0 && isWithin(tree, at, box) ? [nodes[each.node]] : [])).filter((node) => node !== undefined);
  const sum = (of: (node: MapNode) => number): number => inside.reduce((all, node) => all + of(node), 0);
  const modes = new Map<string, number>();
  for (const node of inside) for (const [mode, n] of Object.entries(node.modes)) modes.set(mode, (modes.get(mode) ?? 0) + n);
  const jewels = [...new Set(inside.flatMap((node) => node.jewels))];
  const members = inside.length === 1 ? (inside[0]?.members ?? []) : [];
  const lines = level.lines.filter((line) => line.source === box || line.destination === box);
  const own = level.inner.get(box);
  return (
    <Drawer
      title={trail(tree, box).map(printable).join(" › ")} onClose={onClose}
      about={<div className={css.row}><span className="soft">{one.key} · {about(tree, box)}</span>{jewels.map((jewel) => <Badge key={jewel} tone="accent" mark="◆">{printable(jewel)}</Badge>)}</div>}
      foot={<><Button icon="search" onClick={onFly}>Fly there</Button>{workload ? <Link className={css.go} to={`/workloads?${new URLSearchParams({ open: workload.uuid })}`}>The workload</Link> : !one.isPlace && <Link className={css.go} to={`/workloads?${new URLSearchParams({ where: one.id })}`}>{plural(one.workloads, "workload")}</Link>}</>}
    >
      {workload && <Section title="Held how"><Facts><Fact name="Agent">{workload.has_agent ? workload.mode : <>none: what policy blocks there, nobody stops</>}</Fact><Fact name="Selector of its group"><code>{printable(workload.group)}</code></Fact>{one.program !== undefined && <Fact name="Unit, as its host says"><code>{printable(one.program)}</code></Fact>}</Facts></Section>}
      {!one.isPlace && !workload && (
        <Section title="Held how">
          <Facts>
            <Fact name="With an agent">{count(sum((node) => node.controlled))} of {count(one.workloads)}</Fact>
            {modes.size > 0 && <Fact name="Modes">{[...modes].map(([mode, n]) => `${count(n)} ${mode}`).join(", ")}</Fact>}
            {sum((node) => node.quarantined) > 0 && <Fact name="In quarantine">{count(sum((node) => node.quarantined))}</Fact>}
            {sum((node) => node.from_internet) > 0 && <Fact name="From the internet">{plural(sum((node) => node.from_internet), "connection")}</Fact>}
            <Fact name="Selector"><code>{printable(one.id)}</code></Fact>
          </Facts>
        </Section>
      )}
      {members.length > 0 && <Section title="Workloads"><p className={css.members}>{members.map(printable).join(", ")}{one.workloads > members.length && ` and ${count(one.workloads - members.length)} more`}</p></Section>}
      {one.children.length > 0 && one.node < 0 && <Section title={workload ? "Programs" : "In it"}><div className={css.row}>{one.children.slice(0, MOST).map((child) => <button key={child} type="button" className={css.chip} onClick={() => onBox(child)}>{printable(tree.boxes[child]?.name ?? "")}</button>)}</div></Section>}
      <Section title="Talks to, and is talked to by" tools={lines.length > MOST && <span className="soft">the first {MOST} of {count(lines.length)}</span>}>
        {lines.length === 0 && !own && <p className="soft">Nothing was seen in this time.</p>}
        <ul className={css.lines}>
          {own && <li><LineButton line={own} words="inside" isDraft={isDraft} onLine={onLine} /></li>}
          {lines.slice(0, MOST).map((line) => {
            const [isOut, other] = line.source === box ? [true, line.destination] : [false, line.source];
            return <li key={`${isOut} ${other}`}><LineButton line={line} words={`${isOut ? "to" : "from"} ${trail(tree, other).map(printable).join(" › ")}`} isDraft={isDraft} onLine={onLine} /></li>;
          })}
        </ul>
      </Section>
    </Drawer>
  );
}

function LineButton({ line, words, isDraft, onLine }: { line: Bundle; words: string; isDraft: boolean; onLine: (line: Bundle) => void }) {
  const status = STATUSES[line.rank] ?? "allowed";
  return (
    <button type="button" onClick={() => onLine(line)} title={LOOKS[status].help}>
      <Line status={status} /><span>{words}{isDraft && line.isChanged && <> <Badge tone="accent" mark="±">changed</Badge></>}</span><span className="hidden">{LOOKS[status].word}</span><b className="number">{count(line.connections)}</b>
    </button>
  );
}
