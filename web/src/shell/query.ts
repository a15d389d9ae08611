// The one question that all screens share: which workloads, since when. It lives in the address, so a link carries it.

import { useCallback } from "react";
import { useLocation, useSearchParams } from "react-router";

export const RANGES = [["1h", "Last hour"], ["24h", "Last 24 hours"], ["7d", "Last 7 days"], ["30d", "Last 30 days"]] as const;
export type Range = (typeof RANGES)[number][0];
const SECONDS: Record<Range, number> = { "1h": 3600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000 };
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
  const [search, setSearch] = useSearchParams();
  const told = search.get("since");
  const range = isRange(told) ? told : "24h";
  const ask = useCallback(
    (change: { where?: string; range?: Range }) =>
      setSearch((before) => {
        const after = new URLSearchParams(before);
        put(after, "where", change.where, "");
        put(after, "since", change.range, "24h");
        return after;
      }),
    [setSearch],
  );
  return { where: search.get("where") ?? "", range, seconds: SECONDS[range], ask };
}

function put(search: URLSearchParams, key: string, value: string | undefined, usual: string): void {
  if (value === undefined) return;
  if (value === usual) search.delete(key);
  else search.set(key, value);
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
