// Who is logged in. The only place that knows how requests prove it: a bearer token today.
//
// The token lives in memory and in sessionStorage: it ends with the tab and is never written to disk by us.

import { useSyncExternalStore } from "react";
import type { Me } from "../api/types";

const KEY = "ringfence.token";
let token: string | null = sessionStorage.getItem(KEY);
let me: Me | null = null;
let ended = "";
let state: { isIn: boolean; me: Me | null; ended: string } = { isIn: token !== null, me, ended };
const listeners = new Set<() => void>();

function tell(): void {
  state = { isIn: token !== null, me, ended };
  for (const listener of listeners) listener();
}

/** Put the proof on a request. */
export function authorize(headers: Headers): void {
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
}

export function begin(newToken: string, who: Me): void {
  token = newToken;
  me = who;
  ended = "";
  sessionStorage.setItem(KEY, newToken);
  tell();
}

export function know(who: Me): void {
  me = who;
  tell();
}

/** Log out, or be logged out: `why` is shown on the login page. */
export function end(why = ""): void {
  if (token === null) return;
  token = null;
  me = null;
  ended = why;
  sessionStorage.removeItem(KEY);
  tell();
}

const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

export const useSession = (): typeof state => useSyncExternalStore(subscribe, () => state);

/** Whether whoever is logged in has a right (`label`, `quarantine`, ...). The server asks again. */
export const useMay = (right: string): boolean => useSession().me?.rights.includes(right) ?? false;
