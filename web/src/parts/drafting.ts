// What unsaved policies amount to, as arithmetic: laid over those in force, compared with them, brought onto newer ones.

import { applyPatch, createPatch } from "diff";

/** One file somebody is writing. */
export interface DraftFile {
  /** None: the file goes. */
  text: string | null;
  /** What it was when the draft began; none: there was no such file. */
  was: string | null;
  /** The version the draft was begun from. */
  version: number;
  /** When it was last written, ISO. */
  at: string;
}

export type Drafts = Readonly<Record<string, DraftFile>>;
export type Files = Readonly<Record<string, string>>;

export interface Changed {
  file: string;
  kind: "new" | "changed" | "removed";
  before: string;
  after: string;
  /** Somebody else changed it after the draft began. */
  isStale: boolean;
}

/** The files as they would be. */
export function merged(files: Files, drafts: Drafts): Record<string, string> {
  const all: Record<string, string> = { ...files };
  for (const [file, draft] of Object.entries(drafts)) {
    if (draft.text === null) delete all[file];
    else all[file] = draft.text;
  }
  return all;
}

/** What drafts change, by name. */
export function changes(files: Files, drafts: Drafts): Changed[] {
  const found = Object.keys(drafts).sort().map((file): Changed => {
    const [now, text, was] = [files[file] ?? null, drafts[file]?.text ?? null, drafts[file]?.was ?? null];
    const kind = text === null ? "removed" : now === null ? "new" : "changed";
    return { file, kind, before: now ?? "", after: text ?? "", isStale: now !== was && now !== text };
  });
  return found.filter((one) => one.isStale || one.before !== one.after || (one.kind === "new" && files[one.file] === undefined));
}

/** A draft written on. Without a difference there is no draft. */
export function written(drafts: Drafts, file: string, text: string | null, begun: { was: string | null; version: number; at: string }): Drafts {
  const before = drafts[file];
  const was = before ? before.was : begun.was;
  const { [file]: _, ...others } = drafts;
  if (text === was) return others;
  return { ...others, [file]: { text, was, version: before?.version ?? begun.version, at: begun.at } };
}

/** The draft on top of what is in force now: its own text wins (`mine`), or both changes together; none: they touch the same lines. */
export function rebased(draft: DraftFile, now: string | null, version: number, how: "mine" | "both"): DraftFile | null {
  if (how === "mine") return { ...draft, was: now, version };
  if (draft.text === null || draft.was === null || now === null) return null;
  const text = applyPatch(now, createPatch("", draft.was, draft.text), { fuzzFactor: 1 });
  return text === false ? null : { ...draft, text, was: now, version };
}

/** Drafts as they were kept; what is not understood is left out. */
export function read(kept: string | null): Drafts {
  try {
    const told: unknown = JSON.parse(kept ?? "{}");
    if (typeof told !== "object" || told === null) return {};
    return Object.fromEntries(Object.entries(told).filter((entry): entry is [string, DraftFile] => isDraft(entry[1])));
  } catch {
    return {};
  }
}

function isDraft(value: unknown): value is DraftFile {
  if (typeof value !== "object" || value === null) return false;
  const { text, was, version, at } = value as Record<string, unknown>;
  return [text, was].every((one) => one === null || typeof one === "string") && typeof version === "number" && typeof at === "string";
}
