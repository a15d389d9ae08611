// How far a breach goes, asked of the controller.

import { useQuery } from "@tanstack/react-query";
import { api, told } from "../../api/client";
import type { components } from "../../api/schema";

type Schemas = components["schemas"];
export type BlastView = Schemas["BlastView"];
export type Blast = Schemas["Blast"];
export type Reached = Schemas["Reached"];
export type Pen = Schemas["Pen"];
export type Way = "from" | "to";

const MOST_GROUPS = 2000;
const SETTLED_MS = 30_000;

export interface Asked {
  of: string;
  way: Way;
  hops: number;
  service: string;
  draft: Pen | null;
}

export const useBlast = (asked: Asked) =>
  useQuery({
    queryKey: ["blast", asked],
    queryFn: ({ signal }) => told(api.POST("/v1/blast-radius", { body: { ...asked, limit: MOST_GROUPS }, signal })),
    enabled: asked.of !== "",
    staleTime: SETTLED_MS,
    retry: false,
    placeholderData: (before) => (before?.of === asked.of && before.way === asked.way ? before : undefined),
  });

/** What there is to choose from. */
export const useVocabulary = () => useQuery({ queryKey: ["vocabulary"], queryFn: ({ signal }) => told(api.GET("/v1/vocabulary", { signal })), staleTime: SETTLED_MS });
