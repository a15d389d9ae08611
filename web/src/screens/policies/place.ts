// What the address of the screen says: which view, which file and line, what is beside it, which versions.

import { useCallback } from "react";
import { useAddress } from "../../shell/address";

export const VIEWS = ["policies", "rules", "versions", "rollout", "proposals"] as const;
export type View = (typeof VIEWS)[number];
export const BESIDE = ["problems", "tests", "diff", "plan"] as const;
export type Beside = (typeof BESIDE)[number];

const isOf = <T extends string>(all: readonly T[], text: string | null): text is T => all.includes(text as T);
/** What only belongs to one view. */
const OWN = ["file", "line", "beside", "rule", "old", "new", "proposal", "to", "text", "slack", "days"] as const;
export type Own = (typeof OWN)[number];

export interface Place {
  view: View;
  beside: Beside;
  get: (key: Own) => string;
  /** Change what one sees here; an empty value takes it away. */
  put: (change: Partial<Record<Own, string>>, isStep?: boolean) => void;
  /** To another view, with no more than is said. */
  go: (view: View, change?: Partial<Record<Own, string>>) => void;
}

export function usePlace(): Place {
  const { search, put } = useAddress();
  const [view, beside] = [search.get("tab"), search.get("beside")];
  const go = useCallback(
    (next: View, change: Partial<Record<Own, string>> = {}) =>
      put({ ...Object.fromEntries(OWN.map((key) => [key, ""])), tab: next === "policies" ? "" : next, ...change }, true),
    [put],
  );
  return {
    view: isOf(VIEWS, view) ? view : "policies",
    beside: isOf(BESIDE, beside) ? beside : "problems",
    get: (key) => search.get(key) ?? "",
    put,
    go,
  };
}
