// What a finding's help suggests, as a change of the text: `did you mean `x`?` becomes one click.

import type { Finding } from "../../../api/types";

export interface Fix {
  from: number;
  to: number;
  insert: string;
}

const SUGGESTED = /did you mean (?:`([^`]+)`|"([^"]+)")/;

/** Where a finding lies in a text: its offending words, or the rest of its line. Offsets count from 0. */
export function spanOf(finding: Finding, text: string): { from: number; to: number } {
  const { line = 0, column = 0 } = finding.where ?? {};
  const start = offsetOf(text, line);
  const end = endOf(text, start);
  const at = Math.min(end, start + Math.max(0, column - 1));
  const word = finding.text && !finding.text.includes("\n") ? text.indexOf(finding.text, at) : -1;
  if (word >= 0 && word + finding.text.length <= end) return { from: word, to: word + finding.text.length };
  const rest = text.slice(at, end);
  const shown = rest.trimEnd().length;
  return shown > 0 ? { from: at, to: at + shown } : { from: start, to: end };
}

/** The change that the help suggests, where the words it is about are found. */
export function fixOf(finding: Finding, text: string): Fix | null {
  const told = SUGGESTED.exec(finding.help ?? "");
  const meant = told?.[1] ?? told?.[2];
  if (!meant || !finding.text) return null;
  const { from, to } = spanOf(finding, text);
  if (text.slice(from, to) !== finding.text) return null;
  const isQuoted = /["']/.test(text[from - 1] ?? "");
  return { from, to, insert: !isQuoted && /[,:{}[\]#]\s|[,{}[\]]/.test(meant) ? `"${meant}"` : meant };
}

function offsetOf(text: string, line: number): number {
  let at = 0;
  for (let n = 1; n < line; n++) {
    const next = text.indexOf("\n", at);
    if (next < 0) return at;
    at = next + 1;
  }
  return at;
}

function endOf(text: string, start: number): number {
  const end = text.indexOf("\n", start);
  return end < 0 ? text.length : end;
}
