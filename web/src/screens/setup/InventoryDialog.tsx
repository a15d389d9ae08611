// An inventory file: what it would add, relabel, open and close is shown first; it is applied as it was shown.

import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { api, told } from "../../api/client";
import { client } from "../../api/queries";
import { Impact } from "../../parts/Impact";
import { Badge } from "../../ui/Badge";
import { Code, ErrorBox, Loading, Stat } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area, Check } from "../../ui/Field";
import { Dialog, say, Section } from "../../ui/Over";
import { count, labelText, plural, printable } from "../../words";
import type { InventoryPlanned } from "./asking";
import { FileDrop } from "./FileDrop";
import css from "./Setup.module.css";
import { INVENTORY_EXAMPLE } from "./words";

interface Chosen {
  name: string;
  text: string;
}

const TESTS = new Set(["test-failed", "test-unmatched"]);
const SHOWN = 40;

export function InventoryDialog({ onClose }: { onClose: () => void }) {
  const [chosen, setChosen] = useState<Chosen | null>(null);
  const [why, setWhy] = useState("");
  const [isAccepted, accept] = useState(false);
  const plan = useMutation({ mutationFn: (file: Chosen) => told(api.POST("/v1/inventory", { body: { ...file, apply: "", accept_failing: false, why: "" } })) });
  const apply = useMutation({
    mutationFn: (of: { file: Chosen; digest: string }) => told(api.POST("/v1/inventory", { body: { ...of.file, apply: of.digest, accept_failing: isAccepted, why } })),
    onSuccess: (done) => {
      say(`${plural(done.new_count, "workload")} new, ${count(done.relabelled_count)} relabelled`);
      void client.invalidateQueries();
      onClose();
    },
  });
  const take = ([file]: readonly File[]): void => {
    if (!file) return;
    apply.reset();
    void file.text().then((text) => {
      const one = { name: file.name, text };
      setChosen(one);
      plan.mutate(one);
    });
  };
  const planned = plan.data;
  const fails = planned?.findings.some((one) => TESTS.has(one.code)) ?? false;
  const changes = planned ? planned.new_count + planned.relabelled_count + planned.readdressed : 0;
  return (
    <Dialog
      title="Import an inventory" about="Nobody is removed by it. New workloads are known by name; nothing is enforced on them until an agent joins there." onClose={onClose} isWide
      foot={
        <>
          {fails ? <Check isOn={isAccepted} onChange={accept}>Go on although tests would fail</Check> : <span />}
          <Button onClick={onClose}>Cancel</Button>
          <Button look="primary" isBusy={apply.isPending} disabled={!planned || changes === 0 || (fails && !isAccepted)} onClick={() => chosen && planned && apply.mutate({ file: chosen, digest: planned.digest })}>
            {planned ? `Apply ${plural(changes, "change")}` : "Apply"}
          </Button>
        </>
      }
    >
      <FileDrop label="Inventory" hint="CSV, TSV, JSON or YAML" accept=".csv,.tsv,.json,.yaml,.yml" onFiles={take} />
      {!chosen && <Section title="For example, inventory.csv"><Code text={INVENTORY_EXAMPLE} /></Section>}
      {plan.isPending && <Loading lines={4} />}
      {plan.error && <ErrorBox error={plan.error} />}
      {planned && <Planned of={planned} name={chosen?.name ?? ""} />}
      {planned && changes > 0 && <Area name="Why" help="Stands in the audit log." value={why} onChange={(event) => setWhy(event.target.value)} />}
      {apply.error && <ErrorBox error={apply.error} />}
    </Dialog>
  );
}

function Planned({ of, name }: { of: InventoryPlanned; name: string }) {
  return (
    <>
      <Section title={`What ${printable(name)} does`}>
        <div className={css.sums}>
          <Stat name="New" value={count(of.new_count)} hint="workloads" />
          <Stat name="Relabelled" value={count(of.relabelled_count)} hint="a change of policy" tone={of.relabelled_count ? "warning" : undefined} />
          <Stat name="Other addresses" value={count(of.readdressed)} hint="of earlier files" />
          <Stat name="Unchanged" value={count(of.unchanged)} hint="as they are" />
        </div>
      </Section>
      {of.findings.length > 0 && <ul className={css.findings}>{of.findings.map((one, index) => <li key={index}><p><Badge tone="warning" mark="!">{one.code}</Badge> {printable(one.message)}</p>{one.help && <p className="soft small">{printable(one.help)}</p>}</li>)}</ul>}
      {of.new.length > 0 && <Section title="New"><p className={css.names}>{of.new.slice(0, SHOWN).map(printable).join(", ")}{of.new_count > SHOWN && ` and ${count(of.new_count - SHOWN)} more`}</p></Section>}
      {of.relabelled.length > 0 && (
        <Section title="Relabelled">
          <ul className={css.moves}>{of.relabelled.slice(0, SHOWN).map((one) => <li key={one.name}><b>{printable(one.name)}</b><span className="soft">{printable(labelText(one.before)) || "no labels"}</span><span>→ {printable(labelText(one.after)) || "no labels"}</span></li>)}</ul>
          <Impact of={{ ...of.diff, findings: [] }} />
        </Section>
      )}
    </>
  );
}
