// What the drafts would do, all of them together: asked for a moment after the last key.

import { useMemo } from "react";
import type { Changed, Files } from "../../parts/drafting";
import { Empty, ErrorBox, Loading, Note } from "../../ui/Box";
import { type InForce, usePlan, useSettled } from "./asked";
import { PlanView } from "./PlanView";

const PAUSE_MS = 700;
export const PLAN_DAYS = 7;

export function Foreseen({ base, changed, files, isSound }: { base: InForce; changed: readonly Changed[]; files: Files; isSound: boolean }) {
  const settled = useSettled(useMemo(() => files, [files]), PAUSE_MS);
  const isWanted = changed.length > 0 && isSound;
  const plan = usePlan(base, settled, PLAN_DAYS, isWanted);
  if (changed.length === 0) return <Empty icon="pulse" title="Nothing is planned"><p>Change a policy, and this tells what opens, what closes, which traffic would stop and who is connected right now.</p></Empty>;
  if (!isSound) return <Note>The plan waits until the policies can be read: mend the errors first.</Note>;
  if (plan.error) return <ErrorBox error={plan.error} onRetry={() => void plan.refetch()} />;
  return plan.data ? <PlanView of={plan.data} /> : <Loading lines={6} />;
}
