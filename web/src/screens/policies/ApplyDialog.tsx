// Put the drafts in force: what they do once more, why, and how they reach the hosts. Or put them before a second person.

import { useMutation } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { api, told } from "../../api/client";
import { asApiError } from "../../api/errors";
import { type Changed, merged } from "../../parts/drafting";
import { useDrafts } from "../../parts/drafts";
import { isConflict } from "../../parts/conflict";
import { Conflict } from "../../parts/Conflict";
import { useStatus } from "../../api/queries";
import { useMayOver } from "../../session/may";
import { ErrorBox, Loading, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area, Check } from "../../ui/Field";
import { Dialog, say, Section } from "../../ui/Over";
import { plural } from "../../words";
import { type InForce, lookAgain, usePlan } from "./asked";
import { Changes } from "./Changes";
import { PLAN_DAYS } from "./Foreseen";
import { type Chosen, HowFields, howOf, USUAL, wrongIn } from "./How";
import { failingIn, PlanView } from "./PlanView";
import { usePlace } from "./place";
import { overOf } from "./scopes";
import { publishedOf } from "./stages";

export function ApplyDialog({ base, changed, onClose }: { base: InForce; changed: readonly Changed[]; onClose: () => void }) {
  const place = usePlace();
  const { drafts, discard } = useDrafts();
  const [note, setNote] = useState("");
  const [chosen, choose] = useState<Chosen>(USUAL);
  const over = overOf(changed);
  const [mayPublish, mayRollout, mayPropose] = [useMayOver("publish", over), useMayOver("rollout", over), useMayOver("propose", over)];
  const [held] = useState({ base, files: merged(base.files, drafts), names: changed.map((one) => one.file), at: Date.now() });
  const { files } = held;
  const plan = usePlan(held.base, files, PLAN_DAYS);
  const draft = useMemo(() => ({ files, base: held.base.number, settings: held.base.settings, note: note.trim() }), [files, held, note]);
  const done = (text: string, view: "rollout" | "proposals"): void => {
    discard(...held.names);
    say(text);
    void lookAgain();
    onClose();
    place.go(view);
  };
  const apply = useMutation({
    mutationFn: () => told(api.POST("/v1/apply", { body: { draft, how: howOf(chosen), plan: plan.data?.digest ?? "" } })),
    onSuccess: ({ version, rollout }) => done(publishedOf(version.number, rollout?.total), "rollout"),
  });
  const propose = useMutation({
    mutationFn: () => told(api.POST("/v1/proposals", { body: draft })),
    onSuccess: () => done("Proposed: somebody else decides", "proposals"),
  });
  const isTwo = useStatus().data?.needs_approval === true;
  const failing = plan.data ? failingIn(plan.data) : [];
  const isRefused = (plan.data?.refusals.length ?? 0) > 0;
  const wrong = wrongIn(chosen);
  const clash = [apply.error, propose.error].find(isConflict);
  const refused = apply.error ?? propose.error;
  const isMoved = clash !== undefined && asApiError(clash).code === "version-conflict";
  const again = (): void => void plan.refetch().then(() => (apply.reset(), propose.reset()));
  const isHeld = !plan.data || clash !== undefined || failing.length > 0 || note.trim() === "" || (isRefused && !chosen.isAccepted);
  const mayApply = mayPublish && mayRollout && !isTwo;
  const why = failing.length ? `${plural(failing.length, "test")} would fail: mend the policy or the test` : note.trim() === "" ? "Say why first: a note is required" : wrong;
  return (
    <Dialog
      title={`${mayApply ? "Apply" : "Propose"} ${plural(changed.length, "draft")}`} about={`On top of ${held.base.number ? `version ${held.base.number}` : "nothing"}.`} isWide onClose={onClose}
      foot={
        <>
          <span className="soft small">{plan.data && why}</span>
          <Button onClick={onClose}>Cancel</Button>
          {mayPropose && <Button look={mayApply ? "plain" : "primary"} isBusy={propose.isPending} disabled={isHeld} onClick={() => propose.mutate()}>Propose</Button>}
          {mayApply && <Button look="primary" isBusy={apply.isPending} disabled={isHeld || wrong !== ""} onClick={() => apply.mutate()}>Apply to {plural(plan.data?.hosts ?? 0, "host")}</Button>}
        </>
      }
    >
      <Area name="Note" help="Stands in the history and in the audit log." required value={note} onChange={(event) => setNote(event.target.value)} />
      {isTwo && <Note>Two people are needed here: you propose, somebody else with the role approver sees what it does and decides.</Note>}
      {clash && <Conflict error={clash} since={Math.min(held.at, plan.dataUpdatedAt || held.at)}>{isMoved ? <Button isTight look="primary" onClick={() => (void lookAgain(), onClose())}>Bring the drafts onto what is in force</Button> : <Button isTight look="primary" isBusy={plan.isFetching} onClick={again}>Show what it does now</Button>}</Conflict>}
      {refused && !clash && <ErrorBox error={refused} />}
      <Section title="What it does">
        {plan.error ? <ErrorBox error={plan.error} onRetry={() => void plan.refetch()} /> : plan.data ? <PlanView of={plan.data} /> : <Loading lines={5} />}
      </Section>
      {isRefused && <Check isOn={chosen.isAccepted} onChange={(isAccepted) => choose({ ...chosen, isAccepted })}>Go on although allows stay closed where they cannot be expressed</Check>}
      {mayApply && <Section title="How it reaches the hosts"><HowFields chosen={chosen} onChange={choose} /></Section>}
      <Section title="Texts"><Changes changed={changed} /></Section>
    </Dialog>
  );
}
