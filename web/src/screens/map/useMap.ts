// The questions of this screen, and the layout that a worker makes of the answer.

import { useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useState } from "react";
import { api, told } from "../../api/client";
import { bodyOf, isNarrowed, type MapView, type MatrixView, type Pen, type Question } from "./asking";
import type { Plan } from "./layout";
import { type Ground, groundOf, isSamePlan, planOf } from "./picture";

const FRESH_MS = 20_000;
const AGAIN_MS = 60_000;

export const useMapView = (question: Question, draft: Pen | null) =>
  useQuery({
    queryKey: ["map", question, draft],
    queryFn: ({ signal }) => told(api.POST("/v1/map", { body: bodyOf(question, Date.now(), draft), signal })) as Promise<MapView>,
    staleTime: FRESH_MS, refetchInterval: AGAIN_MS, structuralSharing: false, placeholderData: (before) => before,
  });

/** All groups there are, where the question leaves some out: they keep their places. */
export const useWhole = (question: Question) =>
  useQuery({
    queryKey: ["map-ground", question.by, question.seconds],
    queryFn: ({ signal }) => told(api.POST("/v1/map", { body: { ...bodyOf({ ...question, where: "", service: "", verdict: "" }, Date.now(), null), limit: 1 }, signal })) as Promise<MapView>,
    enabled: isNarrowed(question), staleTime: AGAIN_MS, structuralSharing: false,
  });

export const useMatrix = (question: Question, draft: Pen | null, segments: boolean) =>
  useQuery({
    queryKey: ["matrix", question, draft, segments],
    queryFn: ({ signal }) => told(api.POST("/v1/matrix", { body: { ...bodyOf(question, Date.now(), draft), segments, limit: 100 }, signal })) as Promise<MatrixView>,
    staleTime: FRESH_MS, refetchInterval: AGAIN_MS, placeholderData: (before) => before,
  });

export interface LaidOut {
  ground: Ground;
  rects: Float32Array;
}

/** The layout of an answer; the one before until it is there. */
export function useLayout(view: MapView | undefined, whole: MapView | undefined): LaidOut | null {
  const ground = useMemo(() => (view && (whole === undefined || whole.by.join() === view.by.join()) ? groundOf(view, whole) : null), [view, whole]);
  const [laid, setLaid] = useState<LaidOut | null>(null);
  const last = useRef<{ plan: Plan; rects: Float32Array } | null>(null);
  const worker = useRef<Worker | null>(null);
  const asked = useRef(0);
  useEffect(() => {
    worker.current = new Worker(new URL("./layout.worker.ts", import.meta.url), { type: "module" });
    return () => worker.current?.terminate();
  }, []);
  useEffect(() => {
    if (!ground || !worker.current) return;
    const plan = planOf(ground.tree);
    const known = last.current;
    if (known && isSamePlan(known.plan, plan)) return setLaid({ ground, rects: known.rects });
    const id = ++asked.current;
    worker.current.onmessage = ({ data }: MessageEvent<{ id: number; rects: Float32Array }>) => {
      if (data.id !== asked.current) return;
      last.current = { plan, rects: data.rects };
      setLaid({ ground, rects: data.rects });
    };
    worker.current.postMessage({ id, plan });
  }, [ground]);
  return laid;
}

/** Label keys that may be grouped by. */
export function useLabelKeys(): readonly string[] {
  const words = useQuery({ queryKey: ["vocabulary"], queryFn: ({ signal }) => told(api.GET("/v1/vocabulary", { signal })), staleTime: FRESH_MS });
  return useMemo(() => (words.data?.labels ?? []).filter((label) => !label.is_ignored && label.workloads > 0).map((label) => label.key), [words.data]);
}
