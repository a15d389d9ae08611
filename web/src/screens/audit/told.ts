// Entries of the audit log in a few words.

import type { AuditEntry } from "../../api/types";

type Details = Record<string, unknown>;

export function detailsOf(entry: AuditEntry): Details {
  try {
    const read: unknown = JSON.parse(entry.details);
    return typeof read === "object" && read !== null && !Array.isArray(read) ? (read as Details) : { details: read };
  } catch {
    return { details: entry.details };
  }
}

/** A value of JSON in JSON, which is how what was before and after is kept. */
function inner(value: unknown): unknown {
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}

const word = (value: unknown): string =>
  value === null || value === undefined ? "–" : typeof value === "object" ? pairs(value as Details) : String(value);

const pairs = (value: Details | unknown[]): string =>
  Array.isArray(value) ? value.map(word).join(", ") : Object.entries(value).filter(([, one]) => !isNothing(one)).map(([key, one]) => `${key}=${word(one)}`).join(", ");

/** A default, which is kept as nothing. */
const isNothing = (value: unknown): boolean => value === "" || value === null || (typeof value === "object" && word(value) === "");

/** What was done and why, in one line: `role: web → db; why: moved`, or the details one after the other. */
export function changeOf(entry: AuditEntry): string {
  const details = detailsOf(entry);
  const [before, after] = [inner(details.before), inner(details.after)];
  if (isObject(before) && isObject(after)) {
    const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((key) => word(before[key]) !== word(after[key]));
    const changed = keys.map((key) => `${key}: ${word(before[key])} → ${word(after[key])}`).join(", ");
    return [changed, details.why ? `why: ${word(details.why)}` : ""].filter(Boolean).join("; ");
  }
  return Object.entries(details).filter(([, value]) => !isNothing(value)).map(([key, value]) => `${key}: ${word(value)}`).join("; ");
}

const isObject = (value: unknown): value is Details => typeof value === "object" && value !== null && !Array.isArray(value);
