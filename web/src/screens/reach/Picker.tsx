// Of whom: a workload, a segment, a selector, an address, the internet.

import { type FormEvent, useEffect, useId, useMemo, useState } from "react";
import { useWorkloads } from "../../api/queries";
import { Button } from "../../ui/Button";
import { useVocabulary, type Way } from "./asking";
import css from "./Reach.module.css";

const MOST_OFFERED = 60;

export function Picker({ way, of, onChoose }: { way: Way; of: string; onChoose: (of: string) => void }) {
  const [text, setText] = useState(of);
  useEffect(() => setText(of), [of]);
  const id = useId();
  const words = useVocabulary().data;
  const workloads = useWorkloads("").data?.items;
  const offered = useMemo(() => {
    const needle = text.trim().toLowerCase();
    const segments = [...(words?.segments ?? [])].sort((a, b) => Number(b.is_crown_jewel) - Number(a.is_crown_jewel));
    const all: [string, string][] = [...segments.map((one): [string, string] => [one.name, one.is_crown_jewel ? "crown jewel" : "segment"]), ["internet", "anybody outside"], ...(workloads ?? []).map((one): [string, string] => [one.name, "workload"])];
    return all.filter(([name]) => name.toLowerCase().includes(needle)).slice(0, MOST_OFFERED);
  }, [text, words, workloads]);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (text.trim()) onChoose(text.trim());
  };
  return (
    <form className={css.picker} onSubmit={submit} role="search" aria-label="Of whom">
      <label>
        <span>{way === "from" ? "Compromised" : "Critical"}</span>
        <input list={id} value={text} placeholder="prod-web-1, shop.ledger, app=shop, 10.0.0.5, internet" autoComplete="off" spellCheck={false} onChange={(event) => setText(event.target.value)} />
      </label>
      <datalist id={id}>{offered.map(([name, kind]) => <option key={`${kind} ${name}`} value={name}>{kind}</option>)}</datalist>
      <Button look="primary" type="submit" icon="reach" disabled={!text.trim()}>Show</Button>
      {of && <Button look="quiet" icon="close" aria-label="Choose somebody else" onClick={() => onChoose("")} />}
    </form>
  );
}
