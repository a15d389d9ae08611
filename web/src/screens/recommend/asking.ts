// What is asked of the controller here: a policy for what was seen, and stored traffic rehearsed under it.

import { queryOptions, useQuery } from "@tanstack/react-query";
import { api, told } from "../../api/client";
import type { components } from "../../api/schema";

type Schemas = components["schemas"];
export type Recommended = Schemas["Recommended"];
export type RuleEvidence = Schemas["RuleEvidence"];
export type Simulated = Schemas["Simulated"];
export type Series = Schemas["Timeline"];
export type Break = Schemas["Break"];
export type Confidence = Schemas["Confidence"];
export type Leftover = Schemas["Leftover"];
export type Level = "ringfence" | "tier" | "port";
export type Pen = Schemas["Pen"];

const SETTLED_MS = 60_000;
const WEEK_H = 168;

export interface Wanted {
  /** A selector; empty: the whole estate. */
  app: string;
  level: Level;
  tight: number;
}

/** From all that is stored: a shorter watch would be trusted less than it deserves. */
export const recommended = (wanted: Wanted, accept: readonly string[] | null = null) =>
  queryOptions({
    queryKey: ["recommend", wanted, accept],
    queryFn: ({ signal }) =>
      told(api.POST("/v1/recommend", { body: { where: wanted.app, level: wanted.level, tight: wanted.tight, least: 2, ...(accept && { accept: [...accept] }) }, signal })),
    staleTime: SETTLED_MS,
    retry: false,
  });

export const useRecommended = (wanted: Wanted, accept: readonly string[] | null = null, isOn = true) => useQuery({ ...recommended(wanted, accept), enabled: isOn });

/** What policies in force say of each application, were every host enforcing. */
export const useApplications = () =>
  useQuery({
    queryKey: ["simulate", "applications"],
    queryFn: ({ signal }) => told(api.POST("/v1/simulate", { body: { where: "", as_mode: "enforce", bucket_h: WEEK_H }, signal })),
    staleTime: SETTLED_MS,
    select: (found) => found.applications,
  });

export interface Rehearsed {
  where: string;
  draft: Pen | null;
  since: string | null;
  until: string | null;
  bucket_h: number;
}

export const useRehearsal = (asked: Rehearsed, isOn: boolean) =>
  useQuery({
    queryKey: ["simulate", asked],
    queryFn: ({ signal }) => told(api.POST("/v1/simulate", { body: { ...asked, as_mode: "enforce" }, signal })),
    staleTime: SETTLED_MS,
    retry: false,
    enabled: isOn,
    placeholderData: (before) => before,
  });

export const penOfFiles = (files: Recommended["files"]): Pen => ({ files: Object.fromEntries(files.map((one) => [one.file, one.text])), remove: [], alone: false });
