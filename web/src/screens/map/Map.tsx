// Who talks to whom, and what policy says of it: one question, as a map, a table or a matrix.

import { useEffect, useMemo, useState } from "react";
import { UNSAVED, useUnder } from "../../parts/under";
import { useAddress } from "../../shell/address";
import { useEstateQuery } from "../../shell/query";
import { ErrorBox, Loading, Tabs } from "../../ui/Box";
import { Page } from "../../ui/Page";
import { count, plural } from "../../words";
import { isNarrowed, questionOf, tabOf } from "./asking";
import { Bar } from "./Bar";
import type { Bundle } from "./bundles";
import { boxOf, NOTHING, type Open, openGroup, openLine, openOf, PAIR, WORKLOAD } from "./chosen";
import { EdgeDrawer } from "./EdgeDrawer";
import { FlowTable } from "./FlowTable";
import { Finder } from "./Finder";
import { GroupDrawer } from "./GroupDrawer";
import { Legend } from "./Legend";
import css from "./Map.module.css";
import { MapCanvas, prepare } from "./MapCanvas";
import { Matrix } from "./Matrix";
import type { Opened } from "./near";
import { NoMap } from "./NoMap";
import { PairDrawer } from "./PairDrawer";
import { useNear } from "./useNear";
import type { Tree } from "./tree";
import { isChanged, tally } from "./verdicts";
import { useLabelKeys, useLayout, useMapView, useWhole } from "./useMap";

export default function Map() {
  const { where, seconds } = useEstateQuery();
  const { search, put, reset } = useAddress();
  const under = useUnder(search.get("draft") ?? "");
  const draft = under.pen;
  const isDraft = draft !== null;
  const question = useMemo(() => questionOf(search, where, seconds), [search, where, seconds]);
  const [tab, open] = [tabOf(search), openOf(search)];
  const asked = useMapView(question, draft);
  const whole = useWhole(question);
  const view = asked.data;
  const laid = useLayout(view, whole.data);
  const [goal, setGoal] = useState<{ box: number } | null>(null);
  const keys = useLabelKeys();
  useEffect(() => void (tab === "map" && prepare().catch(() => undefined)), [tab]);

  const show = (next: Open): void => put({ ...next });
  const { shown, look } = useNear(question, draft, view, laid);
  const tree = shown?.ground.tree;
  const chosen = useMemo(() => {
    if (!tree) return { box: -1, line: "" };
    if (open.from) return { box: -1, line: `${endOf(tree, open.source, open.from, open.level)} ${endOf(tree, open.destination, open.to, open.level)}` };
    return { box: open.group ? boxOf(tree, open.group, open.level) : -1, line: "" };
  }, [tree, open.from, open.to, open.group, open.level, open.source, open.destination]);

  const onLine = (line: Bundle): void => void (tree && show(openLine(tree, line)));
  const onBox = (box: number): void => void (tree && show(openGroup(tree, box)));
  const close = (): void => show(NOTHING);
  const openEnds = (from: string, to: string, level = ""): void => show({ ...NOTHING, from, to, level });
  const askAll = (): void => reset(tab === "map" ? {} : { tab });
  const opened = `${open.from} ${open.to}`;
  const side =
    open.from && open.level === PAIR ? (
      <PairDrawer key={opened} open={open} question={question} draft={draft} onOpen={openEnds} onClose={close} />
    ) : open.from && view ? (
      <EdgeDrawer key={Object.values(open).join(" ")} open={open} question={question} by={view.by} draft={draft} isUnsaved={under.id === UNSAVED} onClose={close} />
    ) : chosen.box >= 0 && shown && view ? (
      <GroupDrawer key={chosen.box} box={chosen.box} tree={shown.ground.tree} nodes={shown.ground.nodes} view={view} isDraft={isDraft} level={shown.level(shown.ground.tree.boxes[chosen.box]?.depth ?? 0)} onLine={onLine} onBox={onBox} onFly={() => setGoal({ box: chosen.box })} onClose={close} />
    ) : null;

  return (
    <Page
      title="Map" isSheet side={side}
      about={view && <>{count(view.nodes.length)} groups, {count(view.edges.length)} edges{view.truncated.edges > 0 && ` (and ${count(view.truncated.edges)} more: narrow the question)`}{isDraft && `, ${count(view.edges.filter(isChanged).length)} changed by the draft`}</>}
      tools={<Tabs label="Shown as" panel="map-panel" chosen={tab} onChoose={(id) => put({ tab: id === "map" ? "" : id })} tabs={[{ id: "map", name: "Map" }, { id: "table", name: "Table" }, { id: "matrix", name: "Matrix" }]} />}
    >
      <div className={css.screen}>
        <Bar question={question} by={view?.by ?? question.by} keys={keys} isDraft={isDraft} under={under} put={put} />
        <div id="map-panel" role="tabpanel" aria-label={tab} className={css.panel}>
          {tab === "table" ? (
            <FlowTable question={question} draft={draft} opened={opened} onOpen={openEnds} onAll={askAll} />
          ) : tab === "matrix" ? (
            <Matrix question={question} draft={draft} isOfSegments={search.get("of") === "segments"} opened={opened} onKind={(is) => put({ of: is ? "segments" : "" })} onOpen={(from, to, isPair) => openEnds(from, to, isPair ? PAIR : "")} onAll={askAll} />
          ) : asked.error && !view ? (
            <ErrorBox error={asked.error} onRetry={() => void asked.refetch()} />
          ) : !view || !shown ? (
            <Loading lines={8} />
          ) : view.edges.length === 0 ? (
            <NoMap isEmpty={!isNarrowed(question)} onAll={askAll} />
          ) : (
            <MapCanvas view={view} shown={shown} onNear={look} isDraft={isDraft} chosen={chosen} goal={goal} onBox={onBox} onLine={onLine} onNothing={close}>
              <Finder ground={shown.ground} onFound={(box) => (setGoal({ box }), onBox(box))} />
              <LeftOut left={shown.left} />
              <Legend statuses={isDraft ? tally(view.edges, true) : view.statuses} chosen={question.verdict} onChoose={(status) => put({ verdict: status })} />
            </MapCanvas>
          )}
        </div>
      </div>
    </Page>
  );
}

const endOf = (tree: Tree, workload: string, group: string, level: string): number => {
  const near = workload ? boxOf(tree, workload, WORKLOAD) : -1;
  return near >= 0 ? near : boxOf(tree, group, level);
};

/** From near: what there was no room for. */
function LeftOut({ left: { workloads, edges } }: { left: Opened["left"] }) {
  if (workloads + edges === 0) return null;
  const said = [workloads > 0 && plural(workloads, "workload"), edges > 0 && plural(edges, "edge")].filter(Boolean).join(" and ");
  return <p className={css.left}>The most urgent are drawn; {said} more are left out. Narrow the question, or see the Table.</p>;
}
