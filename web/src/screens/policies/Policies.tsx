// The policies: in force and being written, what their rules are used for, how they reach the hosts, and who decided.

import { lazy, Suspense, useState } from "react";
import { useDrafts } from "../../parts/drafts";
import { changes } from "../../parts/drafting";
import { useMay } from "../../session/session";
import { ErrorBox, Loading, Tabs } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Page } from "../../ui/Page";
import { useInForce, useProposals } from "./asked";
import { DraftBar } from "./DraftBar";
import { NewPolicy } from "./NewPolicy";
import { usePlace, type View } from "./place";
import css from "./Policies.module.css";
import { PolicyList } from "./PolicyList";
import { Proposals } from "./Proposals";
import { RolloutPage } from "./Rollout";
import { Rules } from "./Rules";
import { Versions } from "./Versions";

const Workbench = lazy(() => import("./Workbench"));

export default function Policies() {
  const place = usePlace();
  const inForce = useInForce();
  const proposals = useProposals().data?.length;
  const { drafts } = useDrafts();
  const [isNew, setNew] = useState(false);
  const mayWrite = useMay("propose");
  const base = inForce.data;
  const changed = base ? changes(base.files, drafts) : [];
  const tabs = [
    { id: "policies", name: "Policies" }, { id: "rules", name: "Rules" }, { id: "versions", name: "Versions" }, { id: "rollout", name: "Rollout" },
    { id: "proposals", name: "Proposals", ...(proposals ? { count: proposals } : {}) },
  ];
  const isSheet = place.view !== "rollout";
  return (
    <Page
      title="Policies" isSheet={isSheet} about={base && (base.number ? `version ${base.number}` : "none in force yet")}
      tools={
        <>
          <Tabs label="Views of the policies" tabs={tabs} chosen={place.view} onChoose={(id) => place.go(id as View)} panel="policies-panel" />
          <Button needs="propose" look={changed.length ? "plain" : "primary"} icon="plus" onClick={() => setNew(true)}>New policy</Button>
        </>
      }
    >
      {!base ? (
        inForce.error ? <ErrorBox error={inForce.error} onRetry={() => void inForce.refetch()} /> : <Loading lines={8} />
      ) : (
        <div id="policies-panel" role="tabpanel" aria-label={tabs.find((tab) => tab.id === place.view)?.name} className={css.panel}>
          {place.view === "policies" && changed.length > 0 && <DraftBar base={base} changed={changed} />}
          {place.view === "policies" && (place.get("file") ? <Suspense fallback={<Loading lines={10} />}><Workbench base={base} file={place.get("file")} /></Suspense> : <PolicyList base={base} onNew={mayWrite ? () => setNew(true) : undefined} />)}
          {place.view === "rules" && <Rules />}
          {place.view === "versions" && <Versions base={base} />}
          {place.view === "rollout" && <RolloutPage base={base} />}
          {place.view === "proposals" && <Proposals base={base} />}
        </div>
      )}
      {isNew && base && <NewPolicy base={base} onClose={() => setNew(false)} />}
    </Page>
  );
}
