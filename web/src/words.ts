// Numbers, times and names as people read them. Whatever comes from the estate is shown as text only.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const count = (n: number): string => whole.format(n);
export const brief = (n: number): string => short.format(n);

/** `1 host`, `2 hosts`; an irregular plural is given. */
export const plural = (n: number, word: string, words = `${word}s`): string => `${count(n)} ${n === 1 ? word : words}`;

/** Whole percent, but never 0 % of something nor 100 % of less than all. */
export function percent(part: number, all: number): string {
  if (all === 0) return "–";
  if (part === 0) return "0 %";
  if (part === all) return "100 %";
  const share = Math.round((100 * part) / all);
  return `${Math.min(99, Math.max(1, share))} %`;
}

/** Text without what turns the writing direction or hides: a label must not disguise itself. */
export const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, "\ufffd");

const UNITS: readonly [number, string][] = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** `45 s`, `3 min`, `5 h`, `12 d`: the largest unit that fits. */
export function span(seconds: number, whole: (n: number) => number = Math.floor): string {
  const [size, unit] = UNITS.find(([least]) => seconds >= least) ?? [1, "s"];
  return `${whole(seconds / size)} ${unit}`;
}

/** `3 min ago`, `in 2 h`. */
export function ago(time: string, now: number): string {
  const seconds = (now - Date.parse(time)) / 1000;
  if (Math.abs(seconds) < 5) return "just now";
  return seconds > 0 ? `${span(seconds)} ago` : `in ${span(-seconds, Math.round)}`;
}

const pad = (n: number): string => String(n).padStart(2, "0");

/** `2026-03-01 12:00:05` where the reader is. */
export function moment(time: string): string {
  const at = new Date(time);
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return `${day} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** `app=shop, role=web`, sorted by key. */
export const labelText = (labels: Record<string, string>): string =>
  Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => `${key}=${value}`).join(", ");
