// The audit log as JSON lines, and files out of the browser.

import type { AuditEntry } from "../../api/types";
import { detailsOf } from "./told";

/** One entry a line, its details as an object. */
export const jsonLines = (entries: readonly AuditEntry[]): string => entries.map((one) => `${JSON.stringify({ ...one, details: detailsOf(one) })}\n`).join("");

export function save(content: Blob, name: string): void {
  const url = URL.createObjectURL(content);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
