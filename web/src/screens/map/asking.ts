// The one question behind map, table and matrix. It lives in the address; this is how it is read and put to the API.

import type { components } from "../../api/schema";

type Schemas = components["schemas"];
export type Ask = Schemas["Query"];
export type Shown = NonNullable<Ask["verdict"]>;
export type MapView = Schemas["MapView"];
export type MapNode = Schemas["MapNode"];
export type MapEdge = Schemas["MapEdge"];
export type EdgeView = Schemas["EdgeView"];
export type MatrixView = Schemas["MatrixView"];
export type Pen = Schemas["Pen"];
export type FlowPage = Schemas["FlowPage"];
export type FlowRow = Schemas["FlowRow"];
export type SortKey = Schemas["TableQuery"]["sort"];
export type Tab = "map" | "table" | "matrix";

export interface Question {
  where: string;
  seconds: number;
  service: string;
  verdict: Shown | "";
  /** Label keys, the outermost first; none: the estate's usual ones. */
  by: readonly string[];
}

export const VERDICTS: readonly (readonly [Shown | "", string])[] = [
  ["", "Any verdict"], ["unheld", "Blocked on paper"], ["would-block", "Would block"], ["uncovered", "No rule speaks of it"], ["no-policy", "Not covered"],
  ["blocked", "Blocked"], ["allowed", "Allowed"],
];
export const DRAFT_VERDICTS: typeof VERDICTS = [["opens", "Opened by the draft"], ["closes", "Closed by the draft"]];

const TABS: readonly string[] = ["map", "table", "matrix"];
const SHOWN: readonly string[] = [...VERDICTS, ...DRAFT_VERDICTS].map(([id]) => id);

export const tabOf = (search: URLSearchParams): Tab => {
  const told = search.get("tab") ?? "";
  return TABS.includes(told) ? (told as Tab) : "map";
};

export function questionOf(search: URLSearchParams, where: string, seconds: number): Question {
  const verdict = search.get("verdict") ?? "";
  const by = (search.get("by") ?? "").split(",").map((key) => key.trim()).filter(Boolean);
  return { where, seconds, service: search.get("service") ?? "", verdict: SHOWN.includes(verdict) ? (verdict as Shown) : "", by: [...new Set(by)].slice(0, 8) };
}

/** Times are cut to a step, so that the same question asked again is the same to every cache. */
export function since(seconds: number, now: number): string {
  const step = seconds <= 3600 ? 60 : 3600;
  return new Date(Math.floor((now / 1000 - seconds) / step) * step * 1000).toISOString();
}

export function bodyOf(question: Question, now: number, draft: Pen | null): Ask {
  return {
    by: [...question.by], where: question.where, source: "", destination: "", service: question.service, since: since(question.seconds, now),
    verdict: question.verdict || null, draft, limit: 10_000,
  };
}

/** Whether anything but time and folding was asked for: then groups are missing from the answer. */
export const isNarrowed = (question: Question): boolean => Boolean(question.where || question.service || question.verdict);
