// What `/login?problem=CODE` says: why the way through a provider of identities led nowhere.

import { ApiError } from "../../api/errors";

const SAID: Readonly<Record<string, readonly [string, string]>> = {
  "sign-in-refused": ["signing in did not come to an end", "begin again here, in one go and in this browser; if it happens again, the controller's log says what the provider answered"],
  "no-role": ["the provider knows you, but you have no role here", "ask an administrator of Ringfence for a role, or for one of the groups that have one"],
  "provider-unreachable": ["the provider of identities does not answer", "try again in a moment, or sign in with a token"],
  "no-provider": ["nobody set a provider of identities here", "sign in with a token"],
  "too-many-requests": ["too many attempts to sign in from where you are", "wait a minute and try again"],
};
const CODE = /^[a-z][a-z-]{0,40}$/;

/** Nothing of an address is shown but a code: whoever made the link does not get to write on this page. */
export function problemOf(search: string): ApiError | null {
  const code = new URLSearchParams(search).get("problem");
  if (code === null) return null;
  const [message, help] = SAID[code] ?? ["signing in did not work", "begin again here"];
  return new ApiError(403, CODE.test(code) && code in SAID ? code : "sign-in-refused", message, help);
}

/** The page that was asked for, for the provider's way back. */
export const placeAfter = (pathname: string, search: string): string => (pathname === "/login" ? "/" : `${pathname}${search}`.replace(/[\s\\]/g, ""));
