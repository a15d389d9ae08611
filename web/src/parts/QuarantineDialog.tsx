// Isolate workloads: how hard, for how long, why. One dialog for every screen that can name a workload.

import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, told } from "../api/client";
import { refresh } from "../api/queries";
import { ErrorBox } from "../ui/Box";
import { Button } from "../ui/Button";
import { Area, Check, Options, Select } from "../ui/Field";
import { Dialog, say } from "../ui/Over";
import { moment, plural, printable } from "../words";
import { passedOn } from "./forwards";
import { replacedHere } from "./replaced";

const LEVELS = [
  { id: "isolate", name: "Isolate", help: "Nothing passes but the failsafe list: not in, not out." },
  { id: "forensics", name: "Forensics", help: "As isolate, but role=forensics may come in by ssh." },
  { id: "patch", name: "Patch", help: "As forensics, and it reaches role=mirror by https and role=dns." },
] as const;
type Level = (typeof LEVELS)[number]["id"];

const LASTS = [["3600", "1 hour"], ["28800", "8 hours"], ["86400", "1 day"], ["604800", "1 week"], ["0", "Until somebody releases it"]] as const;

export interface Isolated {
  uuid: string;
  name: string;
}

export function QuarantineDialog({ workloads, why: first, onClose }: { workloads: readonly Isolated[]; why: string; onClose: () => void }) {
  const [level, setLevel] = useState<Level>("isolate");
  const [lasts, setLasts] = useState("28800");
  const [why, setWhy] = useState(first);
  const [meant, setMeant] = useState("");
  const asked = { workloads: workloads.map((one) => one.uuid), why, level, allow: [], for_s: Number(lasts) || null };
  const wanted = `${level} ${lasts}`;
  const plan = useQuery({
    queryKey: ["quarantines", "plan", wanted, ...asked.workloads],
    queryFn: ({ signal }) => told(api.POST("/v1/quarantines/plan", { body: { ...asked, why: "", replace: false }, signal })),
  });
  const weakened = plan.data?.weakened ?? 0;
  const between = passedOn(plan.data?.workloads ?? []);
  const isMeant = meant === wanted;
  const isolate = useMutation({
    mutationFn: () => told(api.POST("/v1/quarantines", { body: { ...asked, replace: isMeant } })),
    onSuccess: (made) => {
      say(`${plural(made.length, "workload")} in quarantine`);
      void refresh("quarantines", "workloads", "workload", "status", "alerts", "audit");
      onClose();
    },
  });
  const [one] = workloads;
  const title = workloads.length === 1 && one ? `Quarantine ${printable(one.name)}` : `Quarantine ${plural(workloads.length, "workload")}`;
  return (
    <Dialog
      title={title} about="On the host and on every peer, ahead of every policy, in whatever mode they are." onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button look="danger" icon="lock" isBusy={isolate.isPending} disabled={why.trim() === "" || (weakened > 0 && !isMeant)} onClick={() => isolate.mutate()}>Quarantine</Button>
        </>
      }
    >
      <Options name="Level" values={LEVELS} chosen={level} onChoose={setLevel} />
      <Select name="For how long" values={LASTS} value={lasts} onChange={(event) => setLasts(event.target.value)} />
      <Area name="Why" help="Stands in the audit log." value={why} onChange={(event) => setWhy(event.target.value)} />
      {between && <p role="note">{between}</p>}
      {plan.data && plan.data.replaces.length > 0 && (
        <div role="note">
          <p>It takes the place of {plural(plan.data.replaces.length, "quarantine")} in force:</p>
          <ul>
            {replacedHere(plan.data.replaces, moment).map((line) => <li key={line}>{line}</li>)}
          </ul>
          {weakened > 0 && <Check isOn={isMeant} onChange={(isOn) => setMeant(isOn ? wanted : "")}>Weaken {plural(weakened, "quarantine")} in force: I mean it</Check>}
        </div>
      )}
      {isolate.error && <ErrorBox error={isolate.error} />}
    </Dialog>
  );
}
