// Workloads of the groups in sight, once they are looked at from near; from nearer still, their programs.

import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { api, told } from "../../api/client";
import { bodyOf, type MapView, type Pen, type Question } from "./asking";
import { closed, type NearView, type Opened, opened } from "./near";
import type { LaidOut } from "./useMap";

const FRESH_MS = 20_000;

/** Ids of the groups in sight that are near enough to be opened, none: they are too far; and whether their workloads are, too. */
export interface Sight {
  groups: readonly string[];
  isNearest: boolean;
}

export interface Near {
  shown: Opened | null;
  look: (sight: Sight) => void;
}

export function useNear(question: Question, draft: Pen | null, view: MapView | undefined, laid: LaidOut | null): Near {
  const [{ groups, isNearest }, look] = useState<Sight>({ groups: [], isNearest: false });
  const isDraft = draft !== null;
  const near = useNearView(question, draft, view, groups, false, groups.length > 0);
  const nearest = useNearView(question, draft, view, groups, true, groups.length > 0 && isNearest);
  const base = useMemo(() => (view && laid ? closed(view.edges, laid.ground, laid.rects, isDraft) : null), [view, laid, isDraft]);
  const shown = useMemo(() => (base && near ? opened(base, near, nearest, isDraft) : base), [base, near, nearest, isDraft]);
  return { shown, look };
}

/** Undefined where it is not looked at. */
function useNearView(question: Question, draft: Pen | null, view: MapView | undefined, groups: readonly string[], programs: boolean, isLooked: boolean): NearView | undefined {
  const found = useQuery({
    queryKey: ["map-near", question, draft, groups, programs],
    queryFn: ({ signal }) => told(api.POST("/v1/map/near", { body: { ...bodyOf(question, Date.now(), draft), by: view?.by ?? [], groups: [...groups], most: 48, limit: 2000, programs }, signal })) as Promise<NearView>,
    enabled: isLooked && view !== undefined, staleTime: FRESH_MS, structuralSharing: false, placeholderData: (before) => before, retry: false,
  });
  return isLooked ? found.data : undefined;
}
