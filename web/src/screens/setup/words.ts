// What people type here, as values; and how long things last.

export const LASTS = [["3600", "1 hour"], ["86400", "1 day"], ["604800", "1 week"], ["2592000", "30 days"], ["7776000", "90 days"], ["", "Until it is revoked"]] as const;

/** The end of so many seconds from now; none for ever. */
export const endOf = (seconds: string, now: number): string | null => (seconds ? new Date(now + Number(seconds) * 1000).toISOString() : null);

/** `app=shop, role=web` as labels; none where a part is no label. */
export function labelsOf(text: string): Record<string, string> | null {
  const labels: Record<string, string> = {};
  for (const part of text.split(",").map((one) => one.trim()).filter(Boolean)) {
    const at = part.indexOf("=");
    const [key, value] = [part.slice(0, at).trim(), part.slice(at + 1).trim()];
    if (at < 1 || !key || !value || /[\s=]/.test(key)) return null;
    labels[key] = value;
  }
  return labels;
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
