// One proposal, whole: nobody approves what they have not seen.

import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, told } from "../../api/client";
import type { Proposal } from "../../api/types";
import { useMay, useSession } from "../../session/session";
import { ErrorBox, Loading, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area, Check } from "../../ui/Field";
import { Dialog, Drawer, say, Section } from "../../ui/Over";
import { ago, printable } from "../../words";
import { type InForce, lookAgain, usePlan } from "./asked";
import { between, Changes } from "./Changes";
import { PLAN_DAYS } from "./Foreseen";
import { type Chosen, HowFields, howOf, USUAL, wrongIn } from "./How";
import { failingIn, PlanView } from "./PlanView";
import { usePlace } from "./place";

export function ProposalDrawer({ proposal, base, now, onClose }: { proposal: Proposal; base: InForce; now: number; onClose: () => void }) {
  const { me } = useSession();
  const [mayApprove, mayRollout] = [useMay("approve"), useMay("rollout")];
  const [doing, setDoing] = useState<"approve" | "reject" | null>(null);
  const asked = useQuery({
    queryKey: ["proposals", proposal.id],
    queryFn: ({ signal }) => told(api.GET("/v1/proposals/{id}", { params: { path: { id: proposal.id } }, signal })),
    staleTime: Infinity,
  });
  const whole = asked.data;
  const isOwn = me?.name === proposal.actor;
  const isStale = (proposal.base ?? 0) !== base.number;
  const plan = usePlan(whole && { ...base, settings: whole.settings }, whole?.files ?? null, PLAN_DAYS);
  return (
    <Drawer
      title={printable(proposal.note) || "A proposal"} about={<p>{ago(proposal.at, now)} by {printable(proposal.actor)}</p>} onClose={onClose}
      foot={
        <>
          {(isOwn || mayApprove) && <Button onClick={() => setDoing("reject")}>{isOwn ? "Take back" : "Reject"}</Button>}
          {mayApprove && mayRollout && !isOwn && <Button look="primary" disabled={!plan.data || isStale || failingIn(plan.data).length > 0} onClick={() => setDoing("approve")}>Approve…</Button>}
        </>
      }
    >
      {isOwn && <Note>It is your own: somebody else decides.</Note>}
      {isStale && <Note>It was made from version {proposal.base ?? 0}, and version {base.number} is in force: it has to be proposed anew.</Note>}
      {(asked.error ?? plan.error) && <ErrorBox error={asked.error ?? plan.error} />}
      <Section title="What it does">{plan.data ? <PlanView of={plan.data} /> : !plan.error && <Loading lines={4} />}</Section>
      <Section title="Texts">{whole ? <Changes changed={between(base.files, whole.files)} /> : !asked.error && <Loading />}</Section>
      {doing === "reject" && <Reject proposal={proposal} isOwn={isOwn} onClose={() => setDoing(null)} onDone={onClose} />}
      {doing === "approve" && whole && <Approve proposal={proposal} isRefused={(plan.data?.refusals.length ?? 0) > 0} onClose={() => setDoing(null)} />}
    </Drawer>
  );
}

function Reject({ proposal, isOwn, onClose, onDone }: { proposal: Proposal; isOwn: boolean; onClose: () => void; onDone: () => void }) {
  const [why, setWhy] = useState("");
  const reject = useMutation({
    mutationFn: () => told(api.POST("/v1/proposals/{id}/reject", { params: { path: { id: proposal.id } }, body: { why } })),
    onSuccess: () => {
      say(isOwn ? "Taken back" : "Rejected");
      void lookAgain();
      onDone();
    },
  });
  return (
    <Dialog title={isOwn ? "Take the proposal back" : "Reject the proposal"} onClose={onClose} foot={<><Button onClick={onClose}>Cancel</Button><Button look="danger" isBusy={reject.isPending} disabled={!isOwn && why.trim() === ""} onClick={() => reject.mutate()}>{isOwn ? "Take back" : "Reject"}</Button></>}>
      <Area name="Why" help="Stands in the audit log, and whoever proposed it reads it." value={why} onChange={(event) => setWhy(event.target.value)} />
      {reject.error && <ErrorBox error={reject.error} />}
    </Dialog>
  );
}

function Approve({ proposal, isRefused, onClose }: { proposal: Proposal; isRefused: boolean; onClose: () => void }) {
  const place = usePlace();
  const [chosen, choose] = useState<Chosen>(USUAL);
  const approve = useMutation({
    mutationFn: () => told(api.POST("/v1/proposals/{id}/approve", { params: { path: { id: proposal.id } }, body: howOf(chosen) })),
    onSuccess: ({ version }) => {
      say(`Version ${version.number} is on its way`);
      void lookAgain();
      onClose();
      place.go("rollout");
    },
  });
  const wrong = wrongIn(chosen);
  return (
    <Dialog title="Approve the proposal" about={printable(proposal.note)} isWide onClose={onClose} foot={<><span className="soft small">{wrong}</span><Button onClick={onClose}>Cancel</Button><Button look="primary" isBusy={approve.isPending} disabled={wrong !== "" || (isRefused && !chosen.isAccepted)} onClick={() => approve.mutate()}>Approve and roll out</Button></>}>
      {isRefused && <Check isOn={chosen.isAccepted} onChange={(isAccepted) => choose({ ...chosen, isAccepted })}>Go on although allows stay closed where they cannot be expressed</Check>}
      <HowFields chosen={chosen} onChange={choose} />
      {approve.error && <ErrorBox error={approve.error} />}
    </Dialog>
  );
}
