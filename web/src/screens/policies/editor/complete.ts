// What may be written at a place of a policy: keys, peers, labels, services. Text and words in, offers out.

import type { Words } from "../../../api/types";

export interface Offer {
  label: string;
  kind: "key" | "segment" | "label" | "service" | "word" | "policy";
  detail?: string;
  /** Written in place of the label. */
  apply?: string;
  /** There is more to say right behind it: ask again. */
  isOpen?: boolean;
}

export interface Offers {
  /** Where what is being written begins. */
  from: number;
  offers: Offer[];
}

const TOP = ["policy", "owner", "because", "scope", "segments", "services", "rules", "tests"];
const RULE = ["name", "allow", "deny", "forbid", "because"];
const BODY = ["from", "to", "service", "require", "from_process", "to_process", "until", "within"];
const TEST = ["from", "to", "service", "expect", "name"];
const VALUED = /(?:^|[\s{,["'-])(from|to|service|services|scope|selector|expect|require|ports|global|policy)\s*:\s*/g;
const OPENS_LIST = new Set(["segments", "services", "rules", "tests"]);

/** Offers at a place of a text; none: nothing is to be offered there. */
export function offersAt(text: string, at: number, words: Words): Offers | null {
  const start = text.lastIndexOf("\n", at - 1) + 1;
  const line = text.slice(start, at);
  if (/(^|\s)#/.test(line)) return null;
  const typed = /^([a-z]*)$/.exec(line);
  if (typed) return { from: start, offers: TOP.map((key) => keyOffer(key, OPENS_LIST.has(key) ? `${key}:\n  ` : `${key}: `)) };
  const section = sectionAt(text, start);
  const valued = [...line.matchAll(VALUED)].at(-1);
  if (valued) {
    const from = start + valued.index + valued[0].length;
    return valueOffers(valued[1] ?? "", text.slice(from, at), from, text, words) ?? keysIn(section, line, start);
  }
  if (section === "segments") return selectorAfterColon(line, start, words);
  if (section === "services" && line.includes(":")) return { from: start + line.lastIndexOf(":") + 1 + gap(line), offers: known(words) };
  return keysIn(section, line, start);
}

function valueOffers(key: string, value: string, from: number, text: string, words: Words): Offers | null {
  const isOver = value.includes("}") || value.includes("]") || (value.includes(",") && !/^[[\s"']/.test(value)) || /^(["']).*\1/.test(value);
  if (isOver) return null;
  const skip = Math.max(value.lastIndexOf("["), value.lastIndexOf('"'), value.lastIndexOf("'"), value.lastIndexOf(",")) + 1;
  const word = value.slice(skip).trimStart();
  const begin = from + value.length - word.length;
  if (key === "expect") return { from: begin, offers: ["allowed", "blocked"].map((label) => ({ label, kind: "word" })) };
  if (key === "require") return { from: begin, offers: [{ label: "mutual-tls", kind: "word", detail: "the peer proved who it is" }] };
  if (key === "service" || key === "services" || key === "ports") return { from: begin, offers: [...ownServices(text), ...services(words)] };
  if (key === "policy") return null;
  if (key === "scope" || key === "selector" || key === "global") return labels(word, begin, words);
  return peers(word, begin, text, words, /["']/.test(value));
}

function peers(word: string, begin: number, text: string, words: Words, isQuoted: boolean): Offers {
  if (word.includes("=")) return labels(word, begin, words);
  const own = policyIn(text);
  const mine: Offer[] = entriesOf(text, "segments").map(([name, value]) => ({ label: name, kind: "segment", detail: value }));
  const theirs: Offer[] = words.segments.filter((one) => one.policy !== own).map((one) => ({ label: one.name, kind: "segment", detail: picks(one.workloads) }));
  const everybody: Offer[] = words.peers.map((label) => ({ label, kind: "word" }));
  const leaving: Offer = { label: "global:", kind: "word", detail: "leaves the scope", apply: isQuoted ? "global: " : '"global: ', isOpen: true };
  return { from: begin, offers: [...mine, ...everybody, ...keyLabels(words), ...theirs, leaving] };
}

function labels(word: string, begin: number, words: Words): Offers {
  const key = /^!?([^=!\s(]+)\s*(?:!=|=)/.exec(word)?.[1];
  if (!key) return { from: begin, offers: keyLabels(words) };
  const at = begin + word.lastIndexOf("=") + 1;
  const told = words.labels.find((one) => one.key === key);
  return { from: at, offers: Object.entries(told?.values ?? {}).map(([label, n]) => ({ label, kind: "label", detail: picks(n) })) };
}

const keyLabels = (words: Words): Offer[] =>
  words.labels.filter((one) => !one.is_ignored).map((one) => ({ label: one.key, kind: "label", apply: `${one.key}=`, detail: picks(one.workloads), isOpen: true }));

const services = (words: Words): Offer[] => words.services.map((one) => ({ label: one.name, kind: "service", detail: one.ports }));
const known = (words: Words): Offer[] => words.services.filter((one) => one.policy === "").map((one) => ({ label: one.ports, kind: "service", detail: one.name }));
const ownServices = (text: string): Offer[] => entriesOf(text, "services").map(([label, detail]) => ({ label, kind: "service", detail }));
const picks = (n: number): string => `${n} ${n === 1 ? "workload" : "workloads"}`;
const keyOffer = (label: string, apply = `${label}: `): Offer => ({ label, kind: "key", apply, isOpen: true });
const gap = (line: string): number => /:(\s*)/.exec(line.slice(line.lastIndexOf(":")))?.[1]?.length ?? 0;

function selectorAfterColon(line: string, start: number, words: Words): Offers | null {
  const told = /^(\s+[\w.-]+:\s*["']?)(.*)$/.exec(line);
  if (!told?.[1]) return null;
  const word = (told[2] ?? "").split(",").at(-1)?.trimStart() ?? "";
  return labels(word, start + line.length - word.length, words);
}

function keysIn(section: string, line: string, start: number): Offers | null {
  if (section !== "rules" && section !== "tests") return null;
  const word = /[a-z_]*$/.exec(line)?.[0] ?? "";
  const isInside = line.lastIndexOf("{") > line.lastIndexOf("}");
  if (!isInside && !/^\s+(-\s+)?[a-z_]*$/.test(line)) return null;
  const keys = section === "tests" ? TEST : isInside ? BODY : RULE;
  return {
    from: start + line.length - word.length,
    offers: keys.map((key) => keyOffer(key, ["allow", "deny", "forbid"].includes(key) ? `${key}: {from: ` : `${key}: `)),
  };
}

/** The section of a policy that a place is in: the last key without indentation before it. */
export function sectionAt(text: string, at: number): string {
  return [...text.slice(0, at).matchAll(/^([a-z]+):/gm)].at(-1)?.[1] ?? "";
}

/** `name: value` lines of a section, read loosely: the text may not be whole. */
export function entriesOf(text: string, section: string): [string, string][] {
  const begin = new RegExp(`^${section}:[^\\n]*\\n`, "m").exec(text);
  if (!begin) return [];
  const rest = text.slice(begin.index + begin[0].length);
  const end = rest.search(/^\S/m);
  const block = end < 0 ? rest : rest.slice(0, end);
  return [...block.matchAll(/^ {1,4}([\w.-]+):[ \t]*(.*)$/gm)].map((one) => [one[1] ?? "", (one[2] ?? "").replace(/\s+#.*$/, "")]);
}

/** The name of the policy that a text is. */
export const policyIn = (text: string): string => /^policy:\s*["']?([\w.-]+)/m.exec(text)?.[1] ?? "";
