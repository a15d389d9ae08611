// Unsaved policies, kept in this browser for whoever is logged in until they are applied or discarded.
//
// INVARIANT: what was typed is in localStorage before the next frame, or the page says that it is not.

import { useCallback, useSyncExternalStore } from "react";
import { useSession } from "../session/session";
import { type DraftFile, type Drafts, read, rebased, written } from "./drafting";

interface Held {
  drafts: Drafts;
  /** The browser takes no more: the drafts live in this tab only. */
  isUnkept: boolean;
}

const NONE: Held = { drafts: {}, isUnkept: false };
const held = new Map<string, Held>();
const watchers = new Set<() => void>();
const keyOf = (owner: string): string => `ringfence.drafts.${owner}`;

function load(owner: string): Held {
  const known = held.get(owner);
  if (known) return known;
  const loaded = { drafts: read(localStorage.getItem(keyOf(owner))), isUnkept: false };
  held.set(owner, loaded);
  return loaded;
}

function become(owner: string, drafts: Drafts): void {
  let isUnkept = false;
  try {
    if (Object.keys(drafts).length === 0) localStorage.removeItem(keyOf(owner));
    else localStorage.setItem(keyOf(owner), JSON.stringify(drafts));
  } catch {
    isUnkept = true;
  }
  held.set(owner, { drafts, isUnkept });
  for (const watcher of watchers) watcher();
}

/** Another tab wrote. */
addEventListener("storage", (event) => {
  const owner = event.key?.startsWith(keyOf("")) ? event.key.slice(keyOf("").length) : null;
  if (owner === null) return;
  held.set(owner, { drafts: read(event.newValue), isUnkept: false });
  for (const watcher of watchers) watcher();
});

/** What a draft is begun from. */
export interface Begun {
  was: string | null;
  version: number;
}

export interface Desk extends Held {
  /** Write a file, or let it go (null). `begun`: what is in force now. */
  write: (file: string, text: string | null, begun: Begun) => void;
  /** Onto what is in force now. False: both changed the same lines. */
  rebase: (file: string, now: string | null, version: number, how: "mine" | "both") => boolean;
  discard: (...files: readonly string[]) => void;
}

/** The drafts of whoever is logged in, for every screen: `POST /v1/map` and others take them as `Pen`. */
export function useDrafts(): Desk {
  const owner = useSession().me?.name ?? "";
  const now = useSyncExternalStore(
    useCallback((watcher: () => void) => (watchers.add(watcher), () => watchers.delete(watcher)), []),
    () => (owner ? load(owner) : NONE),
  );
  const write = useCallback(
    (file: string, text: string | null, begun: Begun) => become(owner, written(load(owner).drafts, file, text, { ...begun, at: new Date().toISOString() })),
    [owner],
  );
  const discard = useCallback(
    (...files: readonly string[]) => become(owner, Object.fromEntries(Object.entries(load(owner).drafts).filter(([file]) => !files.includes(file)))),
    [owner],
  );
  const rebase = useCallback(
    (file: string, text: string | null, version: number, how: "mine" | "both") => {
      const draft: DraftFile | undefined = load(owner).drafts[file];
      const after = draft && rebased(draft, text, version, how);
      if (after) become(owner, { ...load(owner).drafts, [file]: after });
      return Boolean(after);
    },
    [owner],
  );
  return { ...now, write, rebase, discard };
}

/** As the API takes unsaved policies. */
export function penOf(drafts: Drafts): { files: Record<string, string>; remove: string[] } {
  const files: Record<string, string> = {};
  const remove: string[] = [];
  for (const [file, draft] of Object.entries(drafts)) {
    if (draft.text === null) remove.push(file);
    else files[file] = draft.text;
  }
  return { files, remove };
}
