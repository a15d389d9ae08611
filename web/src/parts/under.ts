// What there is to look at besides what is in force: unsaved policies, and proposals that wait for a second person.

import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { api, told } from "../api/client";
import type { components } from "../api/schema";
import type { Proposal } from "../api/types";
import { printable } from "../words";
import type { Drafts } from "./drafting";
import { penOf, useDrafts } from "./drafts";
import { type Draft, useDrafted } from "./inForce";

export type Pen = components["schemas"]["Pen"];
/** In the address: the unsaved policies. Anything else is the id of a proposal. */
export const UNSAVED = "1";

export interface Under {
  /** What is looked at; empty: what is in force. */
  id: string;
  /** As the API takes it; none while a proposal is fetched, and of what is in force. */
  pen: Pen | null;
  /** Id and name of each that there is: unsaved policies first. */
  offered: readonly (readonly [string, string])[];
  error: unknown;
}

export const offered = (drafts: Drafts, proposals: readonly Proposal[]): (readonly [string, string])[] => [
  ...(Object.keys(drafts).length > 0 ? [[UNSAVED, "Your unsaved policies"] as const] : []),
  ...proposals.map((one) => [one.id, `Proposal of ${printable(one.actor)}: ${printable(one.note) || one.files.map(printable).join(", ")}`] as const),
];

/** The same as `POST /v1/explain` takes it; none while it is not known. */
export function useUnderDraft(pen: Pen | null): Draft | null {
  const over = useMemo(() => (pen && !pen.alone ? { ...pen.files, ...Object.fromEntries((pen.remove ?? []).map((file) => [file, null])) } : {}), [pen]);
  const laid = useDrafted(over);
  if (!laid || !pen?.alone) return laid;
  return { ...laid, files: pen.files ?? {}, settings: pen.settings ?? laid.settings ?? "" };
}

/** What an address asks for. What is not there any more is what is in force. */
export function useUnder(chosen: string): Under {
  const { drafts } = useDrafts();
  const proposals = useQuery({ queryKey: ["proposals"], queryFn: ({ signal }) => told(api.GET("/v1/proposals", { signal })), refetchInterval: 15_000 }).data;
  const all = useMemo(() => offered(drafts, proposals ?? []), [drafts, proposals]);
  const id = all.some(([one]) => one === chosen) ? chosen : "";
  const whole = useQuery({
    queryKey: ["proposals", id],
    queryFn: ({ signal }) => told(api.GET("/v1/proposals/{id}", { params: { path: { id } }, signal })),
    staleTime: Infinity,
    enabled: id !== "" && id !== UNSAVED,
  });
  const text = whole.data;
  const pen = useMemo((): Pen | null => {
    if (id === UNSAVED) return { ...penOf(drafts), alone: false };
    return id && text?.id === id ? { files: text.files, remove: [], alone: true, settings: text.settings } : null;
  }, [id, drafts, text]);
  return { id, pen, offered: all, error: whole.error };
}
