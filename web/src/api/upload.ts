// Files sent as they are, with how far they are: `fetch` does not tell, XMLHttpRequest does.

import { authorize, end } from "../session/session";
import { errorOf, unreachable } from "./errors";

/** Throws ApiError. `onSent`: bytes so far. */
export function upload<T>(path: string, file: Blob, onSent: (bytes: number) => void, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const headers = new Headers({ "Content-Type": "application/octet-stream", "Idempotency-Key": crypto.randomUUID() });
    authorize(headers);
    request.open("POST", path);
    request.responseType = "json";
    headers.forEach((value, name) => request.setRequestHeader(name, value));
    request.upload.addEventListener("progress", (event) => onSent(event.loaded));
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) return resolve(request.response as T);
      const refused = errorOf(request.status, request.response);
      if (refused.status === 401) end("The server does not take this token any more.");
      reject(refused);
    });
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}
