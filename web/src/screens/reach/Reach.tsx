// How far a breach goes: what a compromised workload reaches in how many hops, and who reaches what is critical.

import { useMemo, useState } from "react";
import { Link } from "react-router";
import { useUnder } from "../../parts/under";
import { UnderChoice } from "../../parts/UnderChoice";
import { useAddress } from "../../shell/address";
import { Choice, Empty, ErrorBox, Loading, Note, Stat } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Filter, Select } from "../../ui/Field";
import { Page } from "../../ui/Page";
import { count, plural, printable } from "../../words";
import { type Asked, type Blast, type BlastView, useBlast, type Way } from "./asking";
import { columnsOf, groupsOf } from "./columns";
import { Columns } from "./Columns";
import { PathDrawer } from "./PathDrawer";
import { Picker } from "./Picker";
import css from "./Reach.module.css";
import { Start } from "./Start";

const HOPS: readonly (readonly [string, string])[] = [["1", "1 hop"], ["2", "2 hops"], ["3", "3 hops"], ["4", "4 hops"], ["6", "6 hops"], ["16", "As far as it goes"]];
const WAYS: readonly { id: Way; name: string; title: string }[] = [{ id: "from", name: "What it reaches", title: "As if it were compromised" }, { id: "to", name: "Who reaches it", title: "As if it were critical" }];

export default function Reach() {
  const { search, put } = useAddress();
  const under = useUnder(search.get("draft") ?? "");
  const way: Way = search.has("to") || search.get("way") === "to" ? "to" : "from";
  const of = search.get(way) ?? "";
  const hops = HOPS.find(([id]) => id === search.get("hops"))?.[0] ?? "3";
  const asked: Asked = { of, way, hops: Number(hops), service: search.get("service") ?? "", draft: under.pen };
  const found = useBlast(asked);
  const choose = (text: string, towards: Way = way): void => put({ from: towards === "from" ? text : "", to: towards === "to" ? text : "", way: !text && towards === "to" ? "to" : "", path: "" });
  return (
    <Page
      title="Reach" about={of ? found.data && `${plural(totalOf(found.data.draft ?? found.data.in_force), "workload")} by the rules` : "how far a breach goes"}
      tools={
        <>
          <Choice label="Way" values={WAYS} chosen={way} onChoose={(id) => choose(of, id)} />
          {of && <Select name="How far" isTight values={HOPS} value={hops} onChange={(event) => put({ hops: event.target.value === "3" ? "" : event.target.value })} />}
          {of && <ServiceBox key={asked.service} service={asked.service} onAsk={(service) => put({ service })} />}
          {of && under.offered.length > 0 && <UnderChoice under={under} onChoose={(draft) => put({ draft })} />}
        </>
      }
      side={found.data && search.get("path") && <PathDrawer key={search.get("path")} view={found.data} who={search.get("path") ?? ""} pen={under.pen} onClose={() => put({ path: "" })} />}
    >
      <div className={css.page}>
        <Picker way={way} of={of} onChoose={choose} />
        {!of ? <Start way={way} onChoose={choose} /> : found.error ? <ErrorBox error={found.error} onRetry={() => void found.refetch()} /> : !found.data ? <Loading lines={8} /> : (
          <Answer view={found.data} hasDrafts={under.offered.length > 0} opened={search.get("path") ?? ""} onOpen={(who) => put({ path: who })} />
        )}
      </div>
    </Page>
  );
}

function ServiceBox({ service, onAsk }: { service: string; onAsk: (service: string) => void }) {
  const [text, setText] = useState(service);
  return <form className={css.service} onSubmit={(event) => (event.preventDefault(), onAsk(text.trim()))}><Filter name="Service, like tcp/22" value={text} onChange={(event) => setText(event.target.value)} onBlur={() => text.trim() !== service && onAsk(text.trim())} /></form>;
}

const totalOf = (blast: Blast): number => blast.hops.at(-1)?.total ?? 0;
const jewelsOf = (blast: Blast): string[] => [...new Set(blast.hops.flatMap((hop) => hop.jewels))].sort();

function Answer({ view, hasDrafts, opened, onOpen }: { view: BlastView; hasDrafts: boolean; opened: string; onOpen: (who: string) => void }) {
  const [unfolded, unfold] = useState<ReadonlySet<string>>(new Set());
  const { in_force: inForce, draft, now } = view;
  const groups = useMemo(() => groupsOf(inForce, draft), [inForce, draft]);
  const columns = useMemo(() => columnsOf(groups, unfolded), [groups, unfolded]);
  const shown = draft ?? inForce;
  const [before, after] = [totalOf(inForce), totalOf(shown)];
  const jewels = jewelsOf(shown);
  const toggle = (application: string): void => {
    const next = new Set(unfolded);
    if (!next.delete(application)) next.add(application);
    unfold(next);
  };
  const isFrom = view.way === "from";
  return (
    <>
      <div className={css.sums}>
        <Stat name="Today, in one hop" value={plural(now.workloads, "workload")} hint={`each host in the mode it is in${now.is_open_to_internet ? `, and ${isFrom ? "the internet" : "from the internet"}` : ""}`} tone={now.workloads > after ? "warning" : undefined} />
        <Stat name={draft ? "In force, all hops" : "By the rules, all hops"} value={plural(before, "workload")} hint={`${plural(inForce.reached.length + inForce.truncated, "group")} in ${plural(inForce.hops.length, "hop")}`} />
        {draft && <Stat name="Under the draft" value={plural(after, "workload")} hint={after === before ? "as many as in force" : `${count(Math.abs(after - before))} ${after > before ? "more" : "fewer"} than in force`} tone={after > before ? "warning" : after < before ? "good" : undefined} />}
        <Stat name={isFrom ? "Crown jewels among them" : "Critical segments that lead there"} value={count(jewels.length)} hint={jewels.length ? jewels.map(printable).join(", ") : "none"} tone={jewels.length && isFrom ? "bad" : undefined} />
      </div>
      {view.unheld > 0 && <Note>{plural(view.unheld, "workload")} of the estate <Link to="/workloads?state=unmanaged">{view.unheld === 1 ? "has" : "have"} no agent</Link>: what the rules do not allow is not stopped there. “Today” counts that; the hops below are what the rules say.</Note>}
      {groups.length === 0 ? (
        <Empty icon="shield" title={isFrom ? "It reaches nobody" : "Nobody reaches it"}>
          <p>Once everything is enforced, no rule lets {isFrom ? "it open a connection to anybody" : "anybody open a connection to it"}; essential traffic such as ICMP errors passes.{now.workloads > 0 && ` Today ${plural(now.workloads, "workload")} ${isFrom ? "can be reached" : "can reach it"}, because hosts observe or no agent runs there.`}</p>
          {!draft && hasDrafts && <p>There are unsaved policies or proposals: look at it under the draft, above.</p>}
        </Empty>
      ) : <Columns view={view} columns={columns} opened={opened} unfolded={unfolded} onOpen={onOpen} onFold={toggle} />}
      {shown.truncated > 0 && <p className="soft">and {plural(shown.truncated, "group")} more: ask for one service, or fewer hops. <Button isTight look="quiet" onClick={() => unfold(new Set())}>Fold all</Button></p>}
    </>
  );
}
