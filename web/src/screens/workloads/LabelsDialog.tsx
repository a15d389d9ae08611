// Labels decide policy: what new ones would open and close is shown before they are put.

import { useMutation } from "@tanstack/react-query";
import { useId, useMemo, useState } from "react";
import { api, told } from "../../api/client";
import { refresh } from "../../api/queries";
import type { Workload } from "../../api/types";
import { isConflict } from "../../parts/conflict";
import { Conflict } from "../../parts/Conflict";
import { Impact } from "../../parts/Impact";
import { ErrorBox, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area, Check, Field } from "../../ui/Field";
import { Dialog, say, Section } from "../../ui/Over";
import { count, plural, printable } from "../../words";
import { become, type Edit, keysCarried, putOf, valuesOf } from "./edits";
import css from "./Workloads.module.css";

interface Props {
  workloads: readonly Workload[];
  /** All that are known, for completion. */
  known: readonly Workload[];
  onClose: () => void;
  onDone: () => void;
}

export function LabelsDialog({ workloads, known, onClose, onDone }: Props) {
  const [edits, setEdits] = useState<readonly Edit[]>([{ key: "", value: "" }]);
  const [removed, setRemoved] = useState<ReadonlySet<string>>(new Set());
  const [why, setWhy] = useState("");
  const [isAccepted, accept] = useState(false);
  const { put, isWhole } = putOf(edits);
  const asked = { workloads: workloads.map((one) => one.uuid), put, remove: [...removed], why, accept_failing: isAccepted };
  const plan = useMutation({ mutationFn: () => told(api.POST("/v1/labels/plan", { body: { ...asked, plan: "" } })) });
  const looked = plan.data?.digest ?? "";
  const apply = useMutation({
    mutationFn: () => told(api.POST("/v1/labels", { body: { ...asked, plan: looked } })),
    onSuccess: ({ changed }) => {
      say(`Labels of ${plural(changed, "workload")} changed`);
      void refresh("workloads", "workload", "status", "audit");
      onDone();
    },
  });
  const change = (next: () => void): void => (next(), plan.reset(), apply.reset());
  const isReady = isWhole && (Object.keys(put).length > 0 || removed.size > 0);
  const over = { labels: workloads.flatMap((one) => [one.labels, become(one.labels, put, removed)]) };
  const fails = (plan.data?.findings.length ?? 0) > 0;
  return (
    <Dialog
      title={`Labels of ${workloads.length === 1 ? printable(workloads[0]?.name ?? "") : plural(workloads.length, "workload")}`}
      about="A change of labels is a change of policy." isWide onClose={onClose}
      foot={
        <>
          {fails ? <Check isOn={isAccepted} onChange={accept}>Go on although tests would fail</Check> : <span />}
          <Button onClick={onClose}>Cancel</Button>
          {plan.data ? (
            <Button look="primary" isBusy={apply.isPending} needs="label" over={over} disabled={why.trim() === "" || (fails && !isAccepted) || isConflict(apply.error)} title={why.trim() === "" ? "Say why first" : undefined} onClick={() => apply.mutate()}>Apply to {count(workloads.length)}</Button>
          ) : (
            <Button look="primary" isBusy={plan.isPending} disabled={!isReady} onClick={() => plan.mutate()}>Show what it does</Button>
          )}
        </>
      }
    >
      <Section title="Put" tools={<Button isTight look="quiet" icon="plus" onClick={() => setEdits([...edits, { key: "", value: "" }])}>Another</Button>}>
        <div className={css.edits}>
          {edits.map((edit, index) => (
            <EditRow
              key={index} edit={edit} known={known}
              onChange={(next) => change(() => setEdits(edits.map((one, at) => (at === index ? next : one))))}
              onRemove={edits.length > 1 ? () => change(() => setEdits(edits.filter((_, at) => at !== index))) : undefined}
            />
          ))}
        </div>
      </Section>
      <TakeOff workloads={workloads} removed={removed} onChange={(next) => change(() => setRemoved(next))} />
      <Area name="Why" help="Stands in the audit log." required value={why} onChange={(event) => setWhy(event.target.value)} />
      {plan.isPending && <Loading lines={3} />}
      {isConflict(apply.error) && <Conflict error={apply.error} since={plan.submittedAt}><Button isTight look="primary" isBusy={plan.isPending} onClick={() => (apply.reset(), plan.mutate())}>Show what it does now</Button><Button isTight onClick={onClose}>Leave it as it is</Button></Conflict>}
      {plan.data && <Section title="What it does"><Impact of={plan.data} /></Section>}
      {(apply.error ?? plan.error) && !isConflict(apply.error) && <ErrorBox error={apply.error ?? plan.error} />}
    </Dialog>
  );
}

function EditRow({ edit, known, onChange, onRemove }: { edit: Edit; known: readonly Workload[]; onChange: (edit: Edit) => void; onRemove?: (() => void) | undefined }) {
  const id = useId();
  const keys = useMemo(() => keysCarried(known).map(([key]) => key), [known]);
  const values = useMemo(() => valuesOf(known, edit.key.trim()), [known, edit.key]);
  return (
    <div className={css.edit}>
      <Field name="Key" list={`${id}k`} placeholder="app" value={edit.key} onChange={(event) => onChange({ ...edit, key: event.target.value })} />
      <i>=</i>
      <Field name="Value" list={`${id}v`} placeholder="shop" value={edit.value} onChange={(event) => onChange({ ...edit, value: event.target.value })} />
      <Button look="quiet" icon="close" aria-label="Remove this line" disabled={!onRemove} onClick={onRemove} />
      <datalist id={`${id}k`}>{keys.map((key) => <option key={key} value={key} />)}</datalist>
      <datalist id={`${id}v`}>{values.map((value) => <option key={value} value={value} />)}</datalist>
    </div>
  );
}

function TakeOff({ workloads, removed, onChange }: { workloads: readonly Workload[]; removed: ReadonlySet<string>; onChange: (removed: ReadonlySet<string>) => void }) {
  const carried = useMemo(() => keysCarried(workloads), [workloads]);
  if (carried.length === 0) return null;
  const toggle = (key: string): void => {
    const next = new Set(removed);
    if (!next.delete(key)) next.add(key);
    onChange(next);
  };
  return (
    <Section title="Take off">
      <div className={css.keys}>
        {carried.map(([key, n]) => <button key={key} type="button" aria-pressed={removed.has(key)} onClick={() => toggle(key)}>{printable(key)} <span className="soft">{workloads.length > 1 && count(n)}</span></button>)}
      </div>
    </Section>
  );
}
