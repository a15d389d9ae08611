// The question that map, table and matrix share, beyond labels and time: folding, service, verdict, draft.

import { useEffect, useState } from "react";
import type { Under } from "../../parts/under";
import { UnderChoice } from "../../parts/UnderChoice";
import type { Put } from "../../shell/address";
import { Field, Select } from "../../ui/Field";
import { DRAFT_VERDICTS, type Question, VERDICTS } from "./asking";
import css from "./Map.module.css";

interface Props {
  question: Question;
  /** Label keys there are, and those in use. */
  by: readonly string[];
  keys: readonly string[];
  isDraft: boolean;
  under: Under;
  put: Put;
}

export function Bar({ question, by, keys, isDraft, under, put }: Props) {
  return (
    <div className={css.bar}>
      <GroupBy by={by} keys={keys} put={put} />
      <Service value={question.service} put={put} />
      <Select name="Verdict" isTight values={isDraft ? [...VERDICTS, ...DRAFT_VERDICTS] : VERDICTS} value={question.verdict} onChange={(event) => put({ verdict: event.target.value })} />
      <div className={css.under}><UnderChoice under={under} onChoose={(draft) => put({ draft, verdict: draft || !isOfDraft(question.verdict) ? question.verdict : "" })} /></div>
    </div>
  );
}

const isOfDraft = (verdict: string): boolean => DRAFT_VERDICTS.some(([id]) => id === verdict);

const USUAL: readonly string[] = ["env", "app", "role"];

/** Label keys, the outermost first. Those in the address are always offered. */
function GroupBy({ by, keys, put }: Pick<Props, "by" | "keys" | "put">) {
  const chosen = by.join(",");
  const others = keys.filter((key) => !USUAL.includes(key));
  const usual = USUAL.filter((key) => keys.includes(key));
  const offered = [...new Set([chosen, ...usual.map((_, at) => usual.slice(0, at + 1).join(",")), ...usual, usual.slice(1).join(","), ...others, ...others.map((key) => [key, ...usual].join(","))])].filter(Boolean);
  return <Select name="Grouped by" isTight values={offered.map((one) => [one, `by ${one.split(",").join(" › ")}`])} value={chosen} onChange={(event) => put({ by: event.target.value, group: "", from: "", to: "", level: "" })} />;
}

function Service({ value, put }: { value: string; put: Put }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const ask = (): void => void (text.trim() !== value && put({ service: text.trim() }));
  return (
    <form className={css.service} onSubmit={(event) => (event.preventDefault(), ask())}>
      <Field name="Service" placeholder="Service: https, tcp/5432" value={text} onChange={(event) => setText(event.target.value)} onBlur={ask} />
    </form>
  );
}
