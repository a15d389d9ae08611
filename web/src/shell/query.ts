// The one question that all screens share: which workloads, since when. It lives in the address, so a link carries it.

import { useCallback } from "react";
import { useLocation } from "react-router";
import { useAddress } from "./address";

export const RANGES = [["1h", "Last hour"], ["24h", "Last 24 hours"], ["7d", "Last 7 days"], ["30d", "Last 30 days"]] as const;
export type Range = (typeof RANGES)[number][0];
const SECONDS: Record<Range, number> = { "1h": 3600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000 };
const USUAL: Range = "24h";
const SHARED = ["where", "since"];

const isRange = (text: string | null): text is Range => text !== null && text in SECONDS;

export interface EstateQuery {
  /** A label selector; empty: everything. */
  where: string;
  range: Range;
  /** The beginning of the range, in seconds before now. */
  seconds: number;
  ask: (change: { where?: string; range?: Range }) => void;
}

export function useEstateQuery(): EstateQuery {
  const { search, put } = useAddress();
  const told = search.get("since");
  const range = isRange(told) ? told : USUAL;
  const ask = useCallback(
    (change: { where?: string; range?: Range }) =>
      put({ ...(change.where !== undefined && { where: change.where }), ...(change.range && { since: change.range === USUAL ? "" : change.range }) }, true),
    [put],
  );
  return { where: search.get("where") ?? "", range, seconds: SECONDS[range], ask };
}

/** An address of another screen with the same question. */
export function useKeeping(): (path: string) => string {
  const { search } = useLocation();
  return (path) => {
    const before = new URLSearchParams(search);
    const [bare, own] = path.split("?");
    const after = new URLSearchParams(own);
    for (const key of SHARED) if (before.has(key) && !after.has(key)) after.set(key, before.get(key) ?? "");
    return after.size ? `${bare}?${after}` : (bare ?? "/");
  };
}
