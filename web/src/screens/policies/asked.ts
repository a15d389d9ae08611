// What the policies screen asks of the server.

import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api, told, whole } from "../../api/client";
import { refresh } from "../../api/queries";
import type { Checked, Planned } from "../../api/types";
import { type Drafts, type Files, merged } from "../../parts/drafting";

const PAUSE_MS = 250;
const PAGE = 50;
const MOST_RULES = 1000;

export interface InForce {
  /** 0: there is none yet. */
  number: number;
  files: Files;
  settings: string;
  note: string;
  actor: string;
}

const NOTHING: InForce = { number: 0, files: {}, settings: "", note: "", actor: "" };

/** The newest version, whole. */
export const useInForce = () =>
  useQuery({
    queryKey: ["versions", "newest"],
    queryFn: async ({ signal }): Promise<InForce> => {
      const [newest] = await told(api.GET("/v1/versions", { params: { query: { limit: 1 } }, signal }));
      if (!newest) return NOTHING;
      const { number, files, settings } = await told(api.GET("/v1/versions/{number}", { params: { path: { number: newest.number } }, signal }));
      return { number, files, settings, note: newest.note, actor: newest.actor };
    },
    refetchInterval: 15_000,
    structuralSharing: (before, after) => (JSON.stringify(before) === JSON.stringify(after) ? before : after),
  });

export const useVersion = (number: number | null) =>
  useQuery({
    queryKey: ["versions", "whole", number],
    queryFn: ({ signal }) => told(api.GET("/v1/versions/{number}", { params: { path: { number: number ?? 0 } }, signal })),
    enabled: number !== null && number > 0,
    staleTime: Infinity,
  });

export const useVersions = (before: number) =>
  useQuery({
    queryKey: ["versions", "page", before],
    queryFn: ({ signal }) => told(api.GET("/v1/versions", { params: { query: { before, limit: PAGE } }, signal })),
    refetchInterval: 15_000,
  });
export const VERSIONS_A_PAGE = PAGE;

export const useWords = () =>
  useQuery({ queryKey: ["vocabulary"], queryFn: ({ signal }) => told(api.GET("/v1/vocabulary", { signal })), staleTime: 20_000 });

/** A value once it has not changed for a moment. */
export function useSettled<T>(value: T, pause = PAUSE_MS): T {
  const [settled, settle] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => settle(value), pause);
    return () => clearTimeout(timer);
  }, [value, pause]);
  return settled;
}

export interface CheckedTexts {
  checked: Checked;
  /** What it is about. */
  files: Files;
}

/** What the language, lint and the tests say of the drafts over what is in force. */
export const useChecked = (base: InForce | undefined, drafts: Drafts) => {
  const settled = useSettled(drafts);
  return useQuery({
    queryKey: ["check", base?.number, settled],
    queryFn: async ({ signal }): Promise<CheckedTexts> => {
      const files = merged(base?.files ?? {}, settled);
      const checked = await told(api.POST("/v1/check", { body: { files, remove: [], alone: true, settings: base?.settings ?? "", lint: true, tests: true }, signal }));
      return { checked, files };
    },
    enabled: base !== undefined && Object.keys(merged(base.files, settled)).length > 0,
    placeholderData: (before) => before,
    refetchInterval: 60_000,
  });
};

/** What a set of files would do. */
export const usePlan = (base: InForce | undefined, files: Files | null, days: number, isWanted = true) =>
  useQuery({
    queryKey: ["plan", base?.number, files, days],
    queryFn: ({ signal }): Promise<Planned> =>
      told(api.POST("/v1/plan", { body: { draft: { files: files ?? {}, base: base?.number ?? 0, settings: base?.settings ?? "", note: "" }, days }, signal })),
    enabled: isWanted && base !== undefined && files !== null,
    retry: false,
    staleTime: 10_000,
  });

export const useRules = (days: number) =>
  useQuery({
    queryKey: ["rules", days],
    queryFn: ({ signal }) => told(api.GET("/v1/rules", { params: { query: { days, limit: MOST_RULES } }, signal })),
    refetchInterval: 60_000,
    placeholderData: (before) => before,
  });

export const useProposals = () =>
  useQuery({ queryKey: ["proposals"], queryFn: ({ signal }) => whole((after) => api.GET("/v1/proposals", { params: { query: { after } }, signal })), refetchInterval: 15_000 });

const STAGES_AT_REST = new Set(["done", "stopped", "passed", "superseded"]);

export const useRollout = () =>
  useQuery({
    queryKey: ["rollout"],
    queryFn: ({ signal }) => told(api.GET("/v1/rollout", { signal })),
    refetchInterval: (query) => (STAGES_AT_REST.has(query.state.data?.stage ?? "done") ? 10_000 : 1500),
  });

/** After something was put in force. */
export const lookAgain = (): Promise<unknown> => refresh("versions", "vocabulary", "check", "plan", "rules", "rollout", "proposals", "status", "posture", "workloads", "audit");
