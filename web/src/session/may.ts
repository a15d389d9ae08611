// Why somebody may not do something, in words.

import { useSession } from "./session";

const WORDS: Record<string, string> = {
  read: "see the estate", propose: "propose policies", publish: "put policies in force", approve: "decide about proposals",
  label: "change labels", mode: "change modes", guardrail: "change guardrails", rollout: "steer a rollout", quarantine: "quarantine",
  release: "release from quarantine", alerts: "handle alerts", evidence: "gather evidence", enrol: "bring hosts in", tokens: "manage tokens and sessions",
  certificates: "revoke certificates", backup: "make backups", audit: "read the audit log", erase: "delete evidence",
};

/** What a right lets one do. */
export const wordsOf = (right: string): string => WORDS[right] ?? right;

/** `You are viewer. To quarantine takes responder or administrator.` */
export function refusal(right: string, mine: readonly string[], roles: Readonly<Record<string, readonly string[]>>): string {
  const able = Object.keys(roles).filter((role) => roles[role]?.includes(right));
  const takes = able.length > 0 ? `takes the role ${listed(able)}` : "takes a right that you do not have";
  return `To ${wordsOf(right)} ${takes}; you are ${mine.length > 0 ? mine.join(", ") : "nobody here"}.`;
}

function listed(words: readonly string[]): string {
  const last = words.at(-1) ?? "";
  return words.length > 1 ? `${words.slice(0, -1).join(", ")} or ${last}` : last;
}

/** Empty: whoever is signed in may. Without `right`: everybody may. */
export function useRefusal(right: string | undefined): string {
  const { me, session } = useSession();
  if (right === undefined || me === null || me.rights.includes(right)) return "";
  const mine = [...new Set([...me.roles, ...me.powers.flatMap((power) => power.roles)])];
  return refusal(right, mine, session?.roles ?? {});
}
