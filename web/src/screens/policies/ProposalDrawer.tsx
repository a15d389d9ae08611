// One proposal, whole: nobody approves what they have not seen.

import { useMutation, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { api, told } from "../../api/client";
import type { Planned, Proposal } from "../../api/types";
import { isConflict } from "../../parts/conflict";
import { Conflict } from "../../parts/Conflict";
import { useMay, useSession } from "../../session/session";
import { ErrorBox, Fact, Facts, Loading, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area, Check } from "../../ui/Field";
import { Dialog, Drawer, say, Section } from "../../ui/Over";
import { kindsOf } from "../../parts/Stops";
import { ago, count, plural, printable } from "../../words";
import { type InForce, lookAgain, usePlan } from "./asked";
import { between, Changes } from "./Changes";
import { PLAN_DAYS } from "./Foreseen";
import { type Chosen, HowFields, howOf, USUAL, wrongIn } from "./How";
import { failingIn, PlanView } from "./PlanView";
import { usePlace } from "./place";
import { overOf } from "./scopes";
import { publishedOf } from "./stages";

const SETTINGS = "ringfence.toml";

export function ProposalDrawer({ proposal, base, now, onClose }: { proposal: Proposal; base: InForce; now: number; onClose: () => void }) {
  const { me } = useSession();
  const mayApprove = useMay("approve");
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
  const texts = useMemo(() => between({ ...base.files, [SETTINGS]: base.settings }, { ...whole?.files, [SETTINGS]: whole?.settings ?? "" }), [base, whole]);
  const over = useMemo(() => overOf(texts), [texts]);
  const isHeld = !plan.data || isStale || failingIn(plan.data).length > 0;
  return (
    <Drawer
      title={printable(proposal.note) || "A proposal"} about={<p>{ago(proposal.at, now)} by {printable(proposal.actor)}</p>} onClose={onClose}
      foot={
        <>
          {isOwn ? <Button onClick={() => setDoing("reject")}>Take back</Button> : <Button needs="approve" over={over} onClick={() => setDoing("reject")}>Reject</Button>}
          {!isOwn && <Button look="primary" needs="approve" over={over} disabled={isHeld && mayApprove} onClick={() => setDoing("approve")}>Approve…</Button>}
        </>
      }
    >
      {isOwn && <Note>It is your own: somebody else decides.</Note>}
      {isStale && <Note>It was made from version {proposal.base ?? 0}, and version {base.number} is in force: it has to be proposed anew.</Note>}
      {(asked.error ?? plan.error) && <ErrorBox error={asked.error ?? plan.error} />}
      <Section title="What it does">{plan.data ? <PlanView of={plan.data} /> : !plan.error && <Loading lines={4} />}</Section>
      <Section title="Texts">{whole ? <Changes changed={texts} /> : !asked.error && <Loading />}</Section>
      {doing === "reject" && <Reject proposal={proposal} isOwn={isOwn} onClose={() => setDoing(null)} onDone={onClose} />}
      {doing === "approve" && plan.data && <Approve proposal={proposal} plan={plan.data} files={texts.length} since={plan.dataUpdatedAt} onAgain={() => void plan.refetch().then(() => setDoing(null))} onClose={() => setDoing(null)} />}
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

interface Approving {
  proposal: Proposal;
  /** What was looked at: it is this that is approved. */
  plan: Planned;
  files: number;
  since: number;
  onAgain: () => void;
  onClose: () => void;
}

function Approve({ proposal, plan, files, since, onAgain, onClose }: Approving) {
  const place = usePlace();
  const [chosen, choose] = useState<Chosen>(USUAL);
  const approve = useMutation({
    mutationFn: () => told(api.POST("/v1/proposals/{id}/approve", { params: { path: { id: proposal.id } }, body: { plan: plan.digest, how: howOf(chosen) } })),
    onSuccess: ({ version, rollout }) => {
      say(publishedOf(version.number, rollout?.total));
      void lookAgain();
      onClose();
      place.go("rollout");
    },
  });
  const wrong = wrongIn(chosen);
  const isRefused = plan.refusals.length > 0;
  const breaks = kindsOf(plan).anew;
  return (
    <Dialog
      title="Approve the proposal" about={`${printable(proposal.note)}, by ${printable(proposal.actor)}`} isWide onClose={onClose}
      foot={<><span className="soft small">{wrong}</span><Button onClick={onClose}>Cancel</Button><Button look="primary" needs="rollout" isBusy={approve.isPending} disabled={wrong !== "" || (isRefused && !chosen.isAccepted) || isConflict(approve.error)} onClick={() => approve.mutate()}>Approve and roll out to {plural(plan.hosts, "host")}</Button></>}
    >
      <Section title="What you approve">
        <Facts>
          <Fact name="It does">opens {plural(plan.diff.opened, "pair")} of workloads, closes {count(plan.diff.closed)}{breaks > 0 && <>, <b>stops {plural(breaks, "kind")} of traffic</b></>}</Fact>
          <Fact name="Texts">{plural(files, "file")} changed, on top of {proposal.base ? `version ${proposal.base}` : "nothing"}</Fact>
          <Fact name="Plan"><code>{plan.digest}</code> <span className="soft">goes with your yes: if anything else would open or close by then, it is refused</span></Fact>
        </Facts>
      </Section>
      {isConflict(approve.error) && <Conflict error={approve.error} since={since}><Button isTight look="primary" onClick={onAgain}>Look at it again</Button></Conflict>}
      {isRefused && <Check isOn={chosen.isAccepted} onChange={(isAccepted) => choose({ ...chosen, isAccepted })}>Go on although allows stay closed where they cannot be expressed</Check>}
      <HowFields chosen={chosen} onChange={choose} />
      {approve.error && !isConflict(approve.error) && <ErrorBox error={approve.error} />}
    </Dialog>
  );
}
