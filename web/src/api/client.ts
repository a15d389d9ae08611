// One way to the API: typed by its OpenAPI document, proven by the session, errors thrown as `ApiError`.
//
//     const page = await told(api.GET("/v1/workloads", { params: { query: { selector } }, signal }));
//
// A POST that changes something carries an idempotency key, so one that got no answer is sent once more and carried out
// once. What only asks carries none: whatever it is asked, it may be asked again.

import createClient from "openapi-fetch";
import { authorize, end, isProvenAnew } from "../session/session";
import { ApiError, errorOf, unreachable } from "./errors";
import { isAsking, nextOf } from "./reads";
import type { paths } from "./schema";

const RETRY_MS = 400;

async function send(request: Request): Promise<Response> {
  if (request.method === "POST" && !isAsking(new URL(request.url).pathname)) request.headers.set("Idempotency-Key", crypto.randomUUID());
  const answer = await proven(request.clone());
  return (await isAnothersProof(request, answer)) && (await isProvenAnew()) ? proven(request) : answer;
}

/** A write whose proof is that of a session before this one. */
const isAnothersProof = async (request: Request, answer: Response): Promise<boolean> =>
  request.method !== "GET" && answer.status === 403 && errorOf(403, await answer.clone().json().catch(() => null)).code === "cross-site";

async function proven(request: Request): Promise<Response> {
  if (request.method !== "GET") authorize(request.headers);
  try {
    return await fetch(request.clone());
  } catch (error) {
    if (request.signal.aborted) throw error;
  }
  await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  try {
    return await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    throw unreachable();
  }
}

export const api = createClient<paths>({ baseUrl: location.origin, fetch: send });

/** The answer itself. Throws ApiError; a session that the server refuses ends. */
export async function told<T>(asked: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await asked;
  if (response.ok) return data as T;
  const refused = errorOf(response.status, error);
  if (refused.status === 401) end();
  throw refused;
}

/** A list, whole: page by page, as the answers' `Link` leads. */
export async function whole<T>(page: (after: string) => Promise<{ data?: T[]; error?: unknown; response: Response }>): Promise<T[]> {
  const items: T[] = [];
  for (let after: string | null = ""; after !== null; ) {
    const asked = page(after);
    items.push(...(await told(asked)));
    after = nextOf((await asked).response.headers.get("Link"));
  }
  return items;
}

/** Retried by queries: what may be different in a moment. */
export const isPassing = (error: unknown): boolean => error instanceof ApiError && (error.status === 0 || error.status === 503);
