// The audit log out of the browser: every entry that the filters pick, whole, as JSON lines or CSV.

import type { AuditEntry } from "../../api/types";
import { detailsOf } from "./told";

export interface Asked {
  actor: string;
  action: string;
  subject: string;
}

type NameOf = (entry: AuditEntry) => string;

/** One entry a line, its details as they are kept. */
export const jsonLines = (entries: readonly AuditEntry[], nameOf: NameOf): string =>
  entries.map((one) => `${JSON.stringify({ seq: one.seq, at: one.at, actor: one.actor, action: one.action, subject: one.subject, name: nameOf(one), details: detailsOf(one), previous: one.previous, hash: one.hash })}\n`).join("");

const COLUMNS = ["seq", "at", "actor", "action", "subject", "name", "details", "previous", "hash"] as const;

/** RFC 4180. A cell that a spreadsheet would compute begins with an apostrophe. */
export function csvOf(entries: readonly AuditEntry[], nameOf: NameOf): string {
  const rows = entries.map((one) => COLUMNS.map((column) => cell(column === "name" ? nameOf(one) : String(one[column]))));
  return [COLUMNS, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

function cell(text: string): string {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function save(text: string, type: string, name: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
