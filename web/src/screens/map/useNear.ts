// Workloads of the groups in sight, once they are looked at from near.

import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { api, told } from "../../api/client";
import { bodyOf, type MapView, type Pen, type Question } from "./asking";
import { closed, type NearView, type Opened, opened } from "./near";
import type { LaidOut } from "./useMap";

const FRESH_MS = 20_000;

export interface Near {
  shown: Opened | null;
  /** Ids of the groups in sight that are near enough to be opened; none: they are too far. */
  look: (groups: readonly string[]) => void;
}

export function useNear(question: Question, draft: Pen | null, view: MapView | undefined, laid: LaidOut | null): Near {
  const [groups, look] = useState<readonly string[]>([]);
  const isDraft = draft !== null;
  const found = useQuery({
    queryKey: ["map-near", question, draft, groups],
    queryFn: ({ signal }) => told(api.POST("/v1/map/near", { body: { ...bodyOf(question, Date.now(), draft), by: view?.by ?? [], groups: [...groups], most: 48, limit: 2000 }, signal })) as Promise<NearView>,
    enabled: groups.length > 0 && view !== undefined, staleTime: FRESH_MS, structuralSharing: false, placeholderData: (before) => before, retry: false,
  });
  const base = useMemo(() => (view && laid ? closed(view.edges, laid.ground, laid.rects, isDraft) : null), [view, laid, isDraft]);
  const near = groups.length > 0 ? found.data : undefined;
  const shown = useMemo(() => (base && near ? opened(base, near, isDraft) : base), [base, near, isDraft]);
  return { shown, look };
}
