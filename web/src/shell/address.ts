// The address holds the state of every view, so that a link carries it. This is the one way to change it.

import { useCallback } from "react";
import { useSearchParams } from "react-router";

/** By key, what it is to be; empty: it goes. */
export type Change = Readonly<Partial<Record<string, string>>>;
/** A change of the view takes the place of the one before; a step is one that "back" leads away from. */
export type Put = (change: Change, isStep?: boolean) => void;

export function changed(before: URLSearchParams, change: Change): URLSearchParams {
  const after = new URLSearchParams(before);
  for (const [key, value] of Object.entries(change)) {
    if (value) after.set(key, value);
    else after.delete(key);
  }
  return after;
}

export interface Address {
  search: URLSearchParams;
  put: Put;
  /** Everything goes but for this; one can step back to what it was. */
  reset: (to?: Change) => void;
}

export function useAddress(): Address {
  const [search, setSearch] = useSearchParams();
  const put = useCallback<Put>((change, isStep = false) => setSearch((before) => changed(before, change), { replace: !isStep }), [setSearch]);
  const reset = useCallback((to: Change = {}) => setSearch(changed(new URLSearchParams(), to)), [setSearch]);
  return { search, put, reset };
}
