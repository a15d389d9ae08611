// What people type here, as values; and how long things last.

export const LASTS = [["3600", "1 hour"], ["86400", "1 day"], ["604800", "1 week"], ["2592000", "30 days"], ["7776000", "90 days"], ["", "Until it is revoked"]] as const;

/** The end of so many seconds from now; none for ever. */
export const endOf = (seconds: string, now: number): string | null => (seconds ? new Date(now + Number(seconds) * 1000).toISOString() : null);

const LABEL = /^([A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?)\s*=\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)$/;

/** `app=shop, role=web` as labels; none where a part is no label. Nothing at all is no label, and no mistake. */
export function labelsOf(text: string): Record<string, string> | null {
  if (text.trim() === "") return {};
  const found = text.split(",").map((part) => LABEL.exec(part.trim()));
  return found.every((one) => one !== null) ? Object.fromEntries(found.map((one) => [one[1], one[2]])) : null;
}

/** What is wrong with labels somebody wrote, with what may be meant; empty: nothing. */
export function wrongLabels(text: string): string {
  if (labelsOf(text)) return "";
  const meant = text.split(",").map((part) => part.trim().replace(/\s*[:=]+\s*/, "=")).filter(Boolean).join(", ");
  return labelsOf(meant) ? `Did you mean ${meant}?` : "Write labels as key=value, with commas between.";
}

/** Ranges one a line; `wrong`: what cannot be one. The server reads them anew. */
export function rangesOf(text: string): { ranges: string[]; wrong: string } {
  const ranges = [...new Set(text.split(/[\s,]+/).filter(Boolean))];
  const odd = ranges.find((one) => !/^[0-9a-f.:]+(\/\d{1,3})?$/i.test(one));
  if (ranges.length === 0) return { ranges, wrong: "Name a range at least: no host could hold an address in none." };
  return { ranges, wrong: odd ? `${odd} is no range: write it like 10.1.0.0/16` : "" };
}

export type Life = "open" | "used" | "ended" | "revoked";

/** Whether a token still opens anything. */
export function lifeOf(one: { revoked_at?: string | null; expires?: string | null; uses_left?: number | null }, now: number): Life {
  if (one.revoked_at) return "revoked";
  if (one.expires && Date.parse(one.expires) <= now) return "ended";
  return one.uses_left === 0 ? "used" : "open";
}

/** `1.5 MB`. */
export function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB"];
  let n = bytes;
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) (n /= 1000), (unit += 1);
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

export const INVENTORY_EXAMPLE = "name,addresses,kind,label:app,label:env,label:role\nweb-1,10.1.0.11,vm,shop,prod,web\ndb-1,10.1.0.21,vm,shop,prod,db\n";
