// Who is signed in. The only place that knows how requests prove it: by a cookie that no script can read, which the
// browser sends by itself, and, with what changes something, by a proof that only a page of ours is told.
//
// The proof lives in memory. Nothing of the session is written down here.

import { useSyncExternalStore } from "react";
import { ApiError, errorOf, unreachable } from "../api/errors";
import type { Me, Session } from "../api/types";

export interface State {
  /** `asking`: the server was not asked yet. */
  phase: "asking" | "in" | "out";
  session: Session | null;
  me: Me | null;
  /** Why it ended, for the page to sign in. */
  ended: string;
}

const ADDRESS = "/v1/session";
const NOBODY = new Set(["token-refused", "session-refused"]);
let state: State = { phase: "asking", session: null, me: null, ended: "" };
const watchers = new Set<() => void>();
/** What other tabs of this browser are told: the cookie is theirs, too. */
const tabs = new BroadcastChannel("ringfence.session");

function become(next: State): void {
  state = next;
  for (const watcher of watchers) watcher();
}

const enter = (session: Session): void => become({ phase: "in", session, me: session.me, ended: "" });

function leave(why: string): void {
  if (state.phase !== "out") become({ phase: "out", session: null, me: null, ended: why });
}

/** Signed out, or refused: `why` is shown on the page to sign in. */
export const end = (why = "Your session is over: nobody used it for a while, or somebody ended it."): void => leave(why);

tabs.onmessage = ({ data }: MessageEvent<unknown>) => {
  if (data === "out") leave("You signed out in another tab.");
  if (data === "in") void begin();
};

async function ask(method: string, path: string, body?: object): Promise<unknown> {
  const headers = new Headers({ Accept: "application/json" });
  if (body) headers.set("Content-Type", "application/json");
  if (method !== "GET") authorize(headers);
  const init = { method, headers, cache: "no-store" as const, ...(body && { body: JSON.stringify(body) }) };
  const answer = await fetch(path, init).catch(() => {
    throw unreachable();
  });
  const told: unknown = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw errorOf(answer.status, told);
  return told;
}

/** The proof, on a request that changes something. */
export function authorize(headers: Headers): void {
  if (state.session) headers.set("X-CSRF-Token", state.session.csrf);
}

/** Ask who is signed in. Throws ApiError where that cannot be told. */
export async function begin(): Promise<void> {
  try {
    enter((await ask("GET", ADDRESS)) as Session);
  } catch (error) {
    if (!(error instanceof ApiError) || !NOBODY.has(error.code)) throw error;
    leave(state.phase === "in" ? "Your session is over." : state.ended);
    if (state.phase === "asking") become({ phase: "out", session: null, me: null, ended: "" });
  }
}

/** With a token. Throws ApiError. */
export async function signIn(token: string): Promise<void> {
  enter((await ask("POST", ADDRESS, { token })) as Session);
  tabs.postMessage("in");
}

/** Here and in every tab; what this browser kept of the estate goes, too, unless `isAway`. Throws ApiError. */
export async function signOut({ isAway = false, why = "" }: { isAway?: boolean; why?: string } = {}): Promise<void> {
  const there = isAway ? "" : state.session?.sign_out;
  try {
    await ask("DELETE", isAway ? `${ADDRESS}?keep=true` : ADDRESS);
  } catch (error) {
    if (!(error instanceof ApiError) || !NOBODY.has(error.code)) throw error;
  }
  tabs.postMessage("out");
  leave(why);
  if (there) location.assign(there);
}

/** Whether a write that was refused as another site's may be sent again: the same person signed in anew in another tab,
 *  and the proof is another. */
export async function isProvenAnew(): Promise<boolean> {
  const before = state.session;
  await begin();
  const now = state.session;
  return before !== null && now !== null && now.csrf !== before.csrf && now.me.name === before.me.name;
}

export const subscribe = (watcher: () => void): (() => void) => {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
};
export const current = (): State => state;

export const useSession = (): State => useSyncExternalStore(subscribe, current);

/** Whether whoever is signed in has a right (`label`, `quarantine`, ...). The server asks again. */
export const useMay = (right: string): boolean => useSession().me?.rights.includes(right) ?? false;
