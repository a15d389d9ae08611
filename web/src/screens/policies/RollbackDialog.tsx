// Back to what an old version says: what that opens and closes first, then why and how.

import { useMutation } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { api, told } from "../../api/client";
import { isConflict } from "../../parts/conflict";
import { Conflict } from "../../parts/Conflict";
import { ErrorBox, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area, Check } from "../../ui/Field";
import { Dialog, say, Section } from "../../ui/Over";
import { plural } from "../../words";
import { type InForce, lookAgain, usePlan, useVersion } from "./asked";
import { between, Changes } from "./Changes";
import { PLAN_DAYS } from "./Foreseen";
import { type Chosen, HowFields, howOf, USUAL, wrongIn } from "./How";
import { PlanView } from "./PlanView";
import { usePlace } from "./place";
import { overOf } from "./scopes";

export function RollbackDialog({ base, to, onClose }: { base: InForce; to: number; onClose: () => void }) {
  const place = usePlace();
  const old = useVersion(to);
  const [note, setNote] = useState(`Back to version ${to}`);
  const [chosen, choose] = useState<Chosen>({ ...USUAL, first: "all" });
  const wanted = old.data ? { ...base, settings: old.data.settings } : undefined;
  const plan = usePlan(wanted, old.data?.files ?? null, PLAN_DAYS);
  const back = useMutation({
    mutationFn: () => told(api.POST("/v1/rollback", { body: { to, base: base.number, note: note.trim(), how: howOf(chosen), plan: plan.data?.digest ?? "" } })),
    onSuccess: ({ version }) => {
      say(`Version ${version.number} says what version ${to} said`);
      void lookAgain();
      onClose();
      place.go("rollout");
    },
  });
  const texts = useMemo(() => between(base.files, old.data?.files ?? base.files), [base, old.data]);
  const over = useMemo(() => overOf(texts), [texts]);
  const isRefused = (plan.data?.refusals.length ?? 0) > 0;
  const isHeld = !plan.data || note.trim() === "" || wrongIn(chosen) !== "" || (isRefused && !chosen.isAccepted);
  return (
    <Dialog
      title={`Roll back to version ${to}`} about={`As a new version, on top of version ${base.number}. No second person is asked.`} isWide onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="danger" icon="undo" needs="publish" over={over} isBusy={back.isPending} disabled={isHeld || isConflict(back.error)} onClick={() => back.mutate()}>Roll back {plural(plan.data?.hosts ?? 0, "host")}</Button></>}
    >
      <Area name="Note" help="Stands in the history and in the audit log." required value={note} onChange={(event) => setNote(event.target.value)} />
      {isConflict(back.error) && <Conflict error={back.error} since={plan.dataUpdatedAt}><Button isTight look="primary" isBusy={plan.isFetching} onClick={() => void lookAgain().then(() => plan.refetch()).then(() => back.reset())}>Show what it does now</Button></Conflict>}
      {back.error && !isConflict(back.error) && <ErrorBox error={back.error} />}
      <Section title="What it does">
        {(plan.error ?? old.error) ? <ErrorBox error={plan.error ?? old.error} onRetry={() => void plan.refetch()} /> : plan.data ? <PlanView of={plan.data} /> : <Loading lines={5} />}
      </Section>
      {isRefused && <Check isOn={chosen.isAccepted} onChange={(isAccepted) => choose({ ...chosen, isAccepted })}>Go on although allows stay closed where they cannot be expressed</Check>}
      <Section title="How it reaches the hosts"><HowFields chosen={chosen} onChange={choose} /></Section>
      {old.data && <Section title="Texts"><Changes changed={texts} /></Section>}
    </Dialog>
  );
}
