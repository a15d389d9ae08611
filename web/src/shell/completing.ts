// What may be written at the caret of a label selector: keys, values of a key, operators. Text and words in, offers out.

import type { Words } from "../api/types";

export interface Offer {
  text: string;
  about: string;
  /** What the line becomes, and where the caret goes. */
  line: string;
  caret: number;
  /** There is more to write after it. */
  isOpen: boolean;
}

type LabelWord = Words["labels"][number];
const MOST = 9;
const OPERATORS: readonly (readonly [string, string])[] = [["in", "one of several"], ["notin", "none of several"]];
const KEY = /(?:^|[,(]\s*)(!?)\s*([\w./-]*)$/;
const VALUE = /(?:^|[,\s])\s*([\w./-]+)\s*(=|==|!=)\s*([\w.-]*)$/;
const SET = /(?:^|[,\s])\s*([\w./-]+)\s+(?:not)?in\s*\(([^)]*)$/;
const AFTER_KEY = /(?:^|,)\s*([\w./-]+)\s+([a-z]*)$/;

/** Offers for what stands before the caret; what begins so before what only holds it, the most used first. */
export function offersAt(text: string, caret: number, labels: readonly LabelWord[]): Offer[] {
  const [before, after] = [text.slice(0, caret), text.slice(caret)];
  const put = (typed: string, word: string, about: string, end = "", isOpen = false): Offer => {
    const head = before.slice(0, before.length - typed.length) + word + end;
    return { text: word, about, line: head + after.replace(/^[\w./-]+/, ""), caret: head.length, isOpen };
  };
  const set = SET.exec(before);
  if (set) {
    const typed = /[^,\s]*$/.exec(set[2] ?? "")?.[0] ?? "";
    const taken = new Set((set[2] ?? "").split(",").map((one) => one.trim()));
    return valuesOf(labels, set[1] ?? "", typed).filter(([value]) => !taken.has(value) || value === typed).map(([value, n]) => put(typed, value, picks(n)));
  }
  const value = VALUE.exec(before);
  if (value) {
    const typed = value[3] ?? "";
    return valuesOf(labels, value[1] ?? "", typed).map(([one, n]) => put(typed, one, picks(n)));
  }
  const operator = AFTER_KEY.exec(before);
  if (operator && labels.some((one) => one.key === operator[1])) {
    return fitting(OPERATORS, operator[2] ?? "", ([word]) => word).map(([word, about]) => put(operator[2] ?? "", word, about, " (", true));
  }
  const key = KEY.exec(before);
  if (!key || isInSet(before)) return [];
  const [typed, isNot] = [key[2] ?? "", key[1] === "!"];
  const known = labels.filter((one) => !one.is_ignored).sort((a, b) => b.workloads - a.workloads);
  return fitting(known, typed, (one) => one.key).map((one) => put(typed, one.key, picks(one.workloads), isNot ? "" : "=", !isNot));
}

const isInSet = (before: string): boolean => before.lastIndexOf("(") > before.lastIndexOf(")");

function valuesOf(labels: readonly LabelWord[], key: string, typed: string): [string, number][] {
  const values = Object.entries(labels.find((one) => one.key === key)?.values ?? {}).sort((a, b) => b[1] - a[1]);
  return fitting(values, typed, ([value]) => value);
}

function fitting<T>(all: readonly T[], typed: string, nameOf: (one: T) => string): T[] {
  const word = typed.toLowerCase();
  const begins = all.filter((one) => nameOf(one).toLowerCase().startsWith(word));
  const holds = all.filter((one) => word !== "" && !begins.includes(one) && nameOf(one).toLowerCase().includes(word));
  return [...begins, ...holds].slice(0, MOST);
}

const picks = (n: number): string => `${n.toLocaleString("en")} ${n === 1 ? "workload" : "workloads"}`;

const RECENT = 8;

/** The latest questions, each once, the new one first. */
export const remembered = (before: readonly string[], asked: string): string[] =>
  asked.trim() === "" ? [...before] : [asked, ...before.filter((one) => one !== asked)].slice(0, RECENT);

/** What was kept, whatever somebody made of it. */
export function readRecent(text: string | null): string[] {
  try {
    const kept: unknown = JSON.parse(text ?? "[]");
    return Array.isArray(kept) ? kept.filter((one): one is string => typeof one === "string" && one.length < 500).slice(0, RECENT) : [];
  } catch {
    return [];
  }
}
