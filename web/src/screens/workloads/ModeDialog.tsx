// How strictly workloads are held, each direction on its own.

import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, told } from "../../api/client";
import { refresh } from "../../api/queries";
import type { ModeName, Workload } from "../../api/types";
import { MODE_HELP } from "../../ui/Badge";
import { ErrorBox, Loading, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area, Options } from "../../ui/Field";
import { Dialog, say, Section } from "../../ui/Over";
import { plural, printable } from "../../words";
import { isConflict } from "../../parts/conflict";
import { Conflict } from "../../parts/Conflict";
import { Stops } from "../../parts/Stops";
import css from "./Workloads.module.css";

type Choice = ModeName | "same";
const CHOICES: readonly { id: Choice; name: string; help: string }[] = [
  { id: "same", name: "As it is", help: "Each workload keeps its own." },
  { id: "observe", name: "Observe", help: MODE_HELP.observe },
  { id: "selective", name: "Selective", help: MODE_HELP.selective },
  { id: "enforce", name: "Enforce", help: MODE_HELP.enforce },
];

export function ModeDialog({ workloads, onClose, onDone }: { workloads: readonly Workload[]; onClose: () => void; onDone: () => void }) {
  const [inbound, setInbound] = useState<Choice>("same");
  const [outbound, setOutbound] = useState<Choice>("same");
  const [why, setWhy] = useState("");
  const unmanaged = workloads.filter((one) => one.state === "unmanaged").length;
  const isChosen = inbound !== "same" || outbound !== "same";
  const asked = { workloads: workloads.map((one) => one.uuid), inbound: inbound === "same" ? null : inbound, outbound: outbound === "same" ? null : outbound, why: "", plan: "" };
  const plan = useQuery({
    queryKey: ["modes-plan", asked], enabled: isChosen && unmanaged < workloads.length, retry: false,
    queryFn: ({ signal }) => told(api.POST("/v1/modes/plan", { body: asked, signal })),
  });
  const set = useMutation({
    mutationFn: () => told(api.POST("/v1/modes", { body: { ...asked, why: why.trim(), plan: plan.data?.digest ?? "" } })),
    onSuccess: ({ changed }) => {
      say(`Mode of ${plural(changed, "workload")} changed`);
      void refresh("workloads", "workload", "status", "audit");
      onDone();
    },
  });
  return (
    <Dialog
      title={`Mode of ${workloads.length === 1 ? printable(workloads[0]?.name ?? "") : plural(workloads.length, "workload")}`} about="How strictly the hosts hold what no rule allows." isWide onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <span className="soft small">{isChosen && why.trim() === "" && "Say why first"}</span>
          <Button look="primary" needs="mode" over={{ labels: workloads.map((one) => one.labels) }} isBusy={set.isPending} disabled={!isChosen || !plan.data || why.trim() === "" || isConflict(set.error)} onClick={() => set.mutate()}>Change mode</Button>
        </>
      }
    >
      <div className={css.two}>
        <Options name="Inbound" values={CHOICES} chosen={inbound} onChoose={setInbound} />
        <Options name="Outbound" values={CHOICES} chosen={outbound} onChoose={setOutbound} />
      </div>
      {isChosen && unmanaged < workloads.length && (
        <Section title="What it does">{plan.error ? <ErrorBox error={plan.error} onRetry={() => void plan.refetch()} /> : plan.data ? <Stops of={plan.data} /> : <Loading lines={3} />}</Section>
      )}
      <Area name="Why" help="Stands in the audit log." required value={why} onChange={(event) => setWhy(event.target.value)} />
      {unmanaged > 0 && <Note>{plural(unmanaged, "workload")} without an agent {unmanaged === 1 ? "is" : "are"} left out: nothing there would hold {unmanaged === 1 ? "it" : "them"} to a mode.</Note>}
      {isConflict(set.error) && <Conflict error={set.error} since={plan.dataUpdatedAt}><Button isTight look="primary" isBusy={plan.isFetching} onClick={() => void plan.refetch().then(() => set.reset())}>Show what it does now</Button><Button isTight onClick={onClose}>Leave it as it is</Button></Conflict>}
      {set.error && !isConflict(set.error) && <ErrorBox error={set.error} />}
    </Dialog>
  );
}
