// The question that map, table and matrix share, beyond labels and time: folding, service, verdict, draft.

import { useEffect, useState } from "react";
import type { Put } from "../../shell/address";
import { Choice } from "../../ui/Box";
import { Field, Select } from "../../ui/Field";
import { DRAFT_VERDICTS, type Question, VERDICTS } from "./asking";
import css from "./Map.module.css";

interface Props {
  question: Question;
  /** Label keys there are, and those in use. */
  by: readonly string[];
  keys: readonly string[];
  isDraft: boolean;
  hasDraft: boolean;
  put: Put;
}

export function Bar({ question, by, keys, isDraft, hasDraft, put }: Props) {
  return (
    <div className={css.bar}>
      <GroupBy by={by} keys={keys} put={put} />
      <Service value={question.service} put={put} />
      <Select name="Verdict" isTight values={isDraft ? [...VERDICTS, ...DRAFT_VERDICTS] : VERDICTS} value={question.verdict} onChange={(event) => put({ verdict: event.target.value })} />
      <Choice
        label="Policy" chosen={isDraft ? "draft" : "active"} onChoose={(one) => put({ draft: one === "draft" ? "1" : "", verdict: one === "draft" || question.verdict !== "opens" && question.verdict !== "closes" ? question.verdict : "" })}
        values={[{ id: "active", name: "Active", title: "As policy in force judges it" }, { id: "draft", name: "Draft", title: hasDraft ? "As your unsaved policies would judge it" : "There are no unsaved policies" }]}
      />
    </div>
  );
}

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
