// Settings put in force as a version of their own, or put before a second person.

import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { api, told } from "../../api/client";
import { useStatus } from "../../api/queries";
import type { Planned } from "../../api/types";
import { isConflict } from "../../parts/conflict";
import { Conflict } from "../../parts/Conflict";
import { ErrorBox, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area, Check } from "../../ui/Field";
import { Dialog, say } from "../../ui/Over";
import { plural } from "../../words";
import { type InForce, lookAgain } from "../policies/asked";
import { type Chosen, HowFields, howOf, USUAL, wrongIn } from "../policies/How";
import { failingIn } from "../policies/PlanView";
import { publishedOf } from "../policies/stages";

interface Props {
  base: InForce;
  text: string;
  plan: Planned;
  since: number;
  onAgain: () => void;
  onClose: () => void;
}

export function SettingsDialog({ base, text, plan, since, onAgain, onClose }: Props) {
  const isTwo = useStatus().data?.needs_approval === true;
  const [note, setNote] = useState("");
  const [chosen, choose] = useState<Chosen>(USUAL);
  const draft = { files: { ...base.files }, base: base.number, settings: text, note: note.trim() };
  const done = (told_: string): void => {
    say(told_);
    void lookAgain();
    onClose();
  };
  const put = useMutation({
    mutationFn: async () => {
      if (!isTwo) {
        const { version, rollout } = await told(api.POST("/v1/apply", { body: { draft, how: howOf(chosen), plan: plan.digest } }));
        return publishedOf(version.number, rollout?.total);
      }
      await told(api.POST("/v1/proposals", { body: draft }));
      return "Proposed: somebody else decides";
    },
    onSuccess: done,
  });
  const isRefused = plan.refusals.length > 0;
  const failing = failingIn(plan).length;
  const wrong = failing ? `${plural(failing, "test")} would fail` : note.trim() === "" ? "Say why first: a note is required" : isTwo ? "" : wrongIn(chosen);
  return (
    <Dialog
      title={isTwo ? "Propose the settings" : "Apply the settings"} about={`As a version on top of version ${base.number}; the policies stay as they are.`} isWide onClose={onClose}
      foot={<><span className="soft small">{wrong}</span><Button onClick={onClose}>Cancel</Button><Button look="primary" isBusy={put.isPending} disabled={wrong !== "" || (isRefused && !chosen.isAccepted) || isConflict(put.error)} onClick={() => put.mutate()}>{isTwo ? "Propose" : `Apply to ${plural(plan.hosts, "host")}`}</Button></>}
    >
      <Area name="Note" help="Stands in the history and in the audit log." required value={note} onChange={(event) => setNote(event.target.value)} />
      {isTwo && <Note>Two people are needed here: somebody else with the role approver sees what it does and decides.</Note>}
      {isConflict(put.error) && <Conflict error={put.error} since={since}><Button isTight look="primary" onClick={() => (onAgain(), void lookAgain(), onClose())}>Look at it again</Button></Conflict>}
      {put.error && !isConflict(put.error) && <ErrorBox error={put.error} />}
      {isRefused && <Check isOn={chosen.isAccepted} onChange={(isAccepted) => choose({ ...chosen, isAccepted })}>Go on although allows stay closed where they cannot be expressed</Check>}
      {!isTwo && <HowFields chosen={chosen} onChange={choose} />}
    </Dialog>
  );
}
