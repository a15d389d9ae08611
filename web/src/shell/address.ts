// The address holds the state of every view, so that a link carries it. This is the one way to change it.
//
// A change is drawn before the next thing a person does: the router's own way, a transition, lets a busy page go on
// showing the old box as ticked, and takes the second of two quick changes for the only one.

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
  const put = useCallback<Put>((change, isStep = false) => setSearch(changed(new URLSearchParams(location.search), change), { replace: !isStep, flushSync: true }), [setSearch]);
  const reset = useCallback((to: Change = {}) => setSearch(changed(new URLSearchParams(), to), { flushSync: true }), [setSearch]);
  return { search, put, reset };
}
