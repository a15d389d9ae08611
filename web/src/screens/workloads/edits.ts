// What somebody wants done to labels, as the API is told it.

export interface Edit {
  key: string;
  value: string;
}

/** Edits that say something; the last of a key counts. Incomplete ones are told apart from none. */
export function putOf(edits: readonly Edit[]): { put: Record<string, string>; isWhole: boolean } {
  const put: Record<string, string> = {};
  let isWhole = true;
  for (const { key, value } of edits) {
    const [name, text] = [key.trim(), value.trim()];
    if (name && text) put[name] = text;
    else if (name || text) isWhole = false;
  }
  return { put, isWhole };
}

/** How many of some workloads carry each key, the most common first. */
export function keysCarried(workloads: readonly { labels: Record<string, string> }[]): [string, number][] {
  const uses = new Map<string, number>();
  for (const { labels } of workloads) for (const key of Object.keys(labels)) uses.set(key, (uses.get(key) ?? 0) + 1);
  return [...uses].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

/** Values of a key that others have, for completion. */
export const valuesOf = (workloads: readonly { labels: Record<string, string> }[], key: string): string[] =>
  [...new Set(workloads.map((one) => one.labels[key]).filter((value) => value !== undefined))].sort().slice(0, 200);

/** Labels as they become. */
export const become = (labels: Record<string, string>, put: Record<string, string>, removed: ReadonlySet<string>): Record<string, string> =>
  Object.fromEntries(Object.entries({ ...labels, ...put }).filter(([key]) => !removed.has(key)));
