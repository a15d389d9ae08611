// What the API refuses with, as errors that carry the code and the next step.

import type { Finding } from "./types";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly help = "",
    readonly findings: readonly Finding[] = [],
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** An answer that is not a success (RFC 9457 where it is ours). */
export function errorOf(status: number, body: unknown): ApiError {
  const told = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  const word = (key: string): string => (typeof told[key] === "string" ? told[key] : "");
  const findings = Array.isArray(told.findings) ? (told.findings as Finding[]) : [];
  if (!word("code")) {
    return new ApiError(status, "not-understood", `the server answers ${status}`, "something between here and the controller answers in its place");
  }
  return new ApiError(status, word("code"), word("message") || word("detail"), word("help"), findings);
}

export const unreachable = (): ApiError =>
  new ApiError(0, "unreachable", "the controller does not answer", "see whether it runs and the network is there; nothing is lost, this page tries again");

export const asApiError = (error: unknown): ApiError =>
  error instanceof ApiError ? error : new ApiError(0, "page-fault", error instanceof Error ? error.message : String(error), "reload the page; report it if it comes back");
