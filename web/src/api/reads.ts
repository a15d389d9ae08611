// Which POSTs only ask, and where a list goes on.

const ASKING: ReadonlySet<string> = new Set([
  "/v1/blast-radius", "/v1/check", "/v1/decide", "/v1/explain", "/v1/flows", "/v1/labels/plan", "/v1/map", "/v1/map/edge", "/v1/map/near",
  "/v1/matrix", "/v1/modes/plan", "/v1/plan", "/v1/quarantines/plan", "/v1/reach", "/v1/recommend", "/v1/simulate",
]);

/** Whether a POST to a path changes nothing. */
export const isAsking = (path: string): boolean => ASKING.has(path);
export const asking = (): string[] => [...ASKING].sort();

/** The cursor of what follows, of `Link: <...?after=CURSOR>; rel="next"` (RFC 8288); none: that was all. */
export function nextOf(link: string | null): string | null {
  const next = /<([^>]*)>\s*;[^,]*\brel="?next"?/.exec(link ?? "")?.[1];
  return next === undefined ? null : new URL(next, "https://here").searchParams.get("after");
}
