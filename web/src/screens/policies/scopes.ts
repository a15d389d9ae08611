// Over whom policies are, read from their texts: what rights over them are asked for.

import type { Over } from "../../session/may";

/** The scope of each policy in a text; none: it has none, so it is over the whole estate. */
export function scopesIn(text: string): (string | null)[] {
  const documents = text.split(/^---.*$/m).filter((one) => /^policy:/m.test(one));
  return documents.map((one) => /^scope:[ \t]*(?:"([^"]*)"|'([^']*)'|([^#\n]*))/m.exec(one)?.slice(1).find((each) => each !== undefined)?.trim() || null);
}

/** What a change of files is over: whatever they were over, and become. */
export const overOf = (changed: readonly { before: string; after: string }[]): Over => ({
  scopes: [...new Set(changed.flatMap((one) => [...scopesIn(one.before), ...scopesIn(one.after)]))],
});
