// Why somebody may not do something, in words. The server asks again.

import type { Me } from "../api/types";
import { labelText } from "../words";
import { isWithin, matches, parse } from "./selector";
import { useSession } from "./session";

const WORDS: Record<string, string> = {
  read: "see the estate", propose: "propose policies", publish: "put policies in force", approve: "decide about proposals",
  label: "change labels", mode: "change modes", guardrail: "change guardrails", rollout: "steer a rollout", quarantine: "quarantine",
  release: "release from quarantine", alerts: "handle alerts", evidence: "gather evidence", enrol: "bring hosts in", tokens: "manage tokens and sessions",
  certificates: "revoke certificates", backup: "make backups", audit: "read the audit log", erase: "delete evidence",
};

/** What a right lets one do. */
export const wordsOf = (right: string): string => WORDS[right] ?? right;

/** What a right is wanted over: workloads by their labels, or policies by their scopes (none: the whole estate). */
export interface Over {
  labels?: readonly Readonly<Record<string, string>>[];
  scopes?: readonly (string | null)[];
}

type Roles = Readonly<Record<string, readonly string[]>>;

/** `You are viewer. To quarantine takes responder or administrator.` */
export function refusal(right: string, mine: readonly string[], roles: Readonly<Record<string, readonly string[]>>): string {
  const able = Object.keys(roles).filter((role) => roles[role]?.includes(right));
  const takes = able.length > 0 ? `takes the role ${listed(able)}` : "takes a right that you do not have";
  return `To ${wordsOf(right)} ${takes}; you are ${mine.length > 0 ? mine.join(", ") : "nobody here"}.`;
}

/** The scopes somebody has a right over; none among them: the whole estate. */
export const scopesOf = (right: string, powers: Me["powers"], roles: Roles): (string | null)[] =>
  powers.filter((power) => power.roles.some((role) => roles[role]?.includes(right))).map((power) => power.scope ?? null);

/** Why a right does not reach that far; empty: it does. */
export function outside(right: string, over: Over, powers: Me["powers"], roles: Roles): string {
  const own = scopesOf(right, powers, roles);
  if (own.includes(null)) return "";
  const read = own.map((scope) => parse(scope ?? "") ?? []);
  const far = over.labels?.find((labels) => !read.some((scope) => matches(scope, labels)));
  if (far) return beyond(right, Object.keys(far).length ? `a workload with ${labelText(far)}` : "a workload without labels", own);
  const wide = over.scopes?.find((scope) => !isCovered(scope, read));
  return wide === undefined ? "" : beyond(right, wide === null ? "the whole estate" : wide, own);
}

/** What cannot be read here is the server's to judge. */
function isCovered(scope: string | null, own: readonly ReturnType<typeof parse>[]): boolean {
  if (scope === null) return false;
  const wanted = parse(scope);
  return wanted === null || own.some((one) => one !== null && isWithin(wanted, one));
}

const beyond = (right: string, what: string, own: readonly (string | null)[]): string =>
  `You may ${wordsOf(right)} over ${listed(own.map(String))}; this is about ${what}.`;

function listed(words: readonly string[]): string {
  const last = words.at(-1) ?? "";
  return words.length > 1 ? `${words.slice(0, -1).join(", ")} or ${last}` : last;
}

/** Whether whoever is signed in has a right over something. */
export const useMayOver = (right: string, over: Over): boolean => useRefusal(right, over) === "";

/** Empty: whoever is signed in may. Without `right`: everybody may. */
export function useRefusal(right: string | undefined, over?: Over): string {
  const { me, session } = useSession();
  if (right === undefined || me === null) return "";
  const roles = session?.roles ?? {};
  if (me.rights.includes(right)) return over ? outside(right, over, me.powers, roles) : "";
  const mine = [...new Set([...me.roles, ...me.powers.flatMap((power) => power.roles)])];
  return refusal(right, mine, roles);
}
