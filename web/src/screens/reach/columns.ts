// What is reached as columns, one a hop: groups, folded into applications where they are many, compared with a draft.

import type { Blast, Reached } from "./asking";

/** `gained`: only under the draft; `lost`: only in force; `nearer`, `farther`: in another hop under the draft. */
export type Difference = "same" | "gained" | "lost" | "nearer" | "farther";

export interface Group {
  who: string;
  hop: number;
  workloads: number;
  services: readonly string[];
  via: string;
  isBare: boolean;
  /** Of addresses nobody holds, one: they are asked about by it. */
  example: string;
  jewels: readonly string[];
  difference: Difference;
  /** The hop in force, where the draft moves it. */
  before: number | null;
}

export interface Item {
  id: string;
  /** What its groups share. */
  application: string;
  groups: readonly Group[];
  workloads: number;
  jewels: readonly string[];
  difference: Difference | "mixed";
}

export interface Column {
  hop: number;
  items: readonly Item[];
  workloads: number;
  groups: number;
  jewels: readonly string[];
}

const KEYS = ["app", "application", "env", "environment"];
/** More groups than this in a column are shown as applications. */
const MOST_GROUPS = 18;

/** `app=shop,env=prod` of `app=shop,env=prod,role=web`; the whole of what has no such labels. */
export function applicationOf(who: string): string {
  const own = who.split(",").filter((part) => KEYS.includes(part.split("=")[0] ?? ""));
  return own.length > 0 ? own.join(",") : who;
}

/** Its other labels: `role=web`. */
export function roleOf(who: string): string {
  const own = applicationOf(who);
  return own === who ? "" : who.split(",").filter((part) => !own.split(",").includes(part)).join(",");
}

function jewelsBy(blast: Blast | null): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [segment, who] of Object.entries(blast?.jewels ?? {})) for (const one of who) found.set(one, [...(found.get(one) ?? []), segment]);
  return found;
}

/** Every group once, where it is now, or under the draft; what the draft takes away stays where it was. */
export function groupsOf(inForce: Blast, draft: Blast | null): Group[] {
  const [before, after] = [inForce, draft ?? inForce].map((blast) => new Map(blast.reached.map((one) => [one.who, one])));
  const jewels = new Map([...jewelsBy(inForce), ...jewelsBy(draft)]);
  const group = (one: Reached, difference: Difference, was: number | null): Group =>
    ({ who: one.who, hop: one.hop, workloads: one.workloads, services: one.services, via: one.via, isBare: one.is_bare, example: one.example ?? "", jewels: jewels.get(one.who) ?? [], difference, before: was });
  const now = [...(after?.values() ?? [])].map((one) => {
    const was = before?.get(one.who)?.hop ?? null;
    const difference = was === null ? "gained" : was > one.hop ? "nearer" : was < one.hop ? "farther" : "same";
    return group(one, difference, was);
  });
  const gone = [...(before?.values() ?? [])].filter((one) => !after?.has(one.who)).map((one) => group(one, "lost", one.hop));
  return [...now, ...gone];
}

export function columnsOf(groups: readonly Group[], unfolded: ReadonlySet<string>): Column[] {
  const hops = [...new Set(groups.map((one) => one.hop))].sort((a, b) => a - b);
  return hops.map((hop) => {
    const here = groups.filter((one) => one.hop === hop);
    const there = here.filter((one) => one.difference !== "lost");
    return { hop, items: itemsOf(here, hop, unfolded), workloads: sum(there), groups: there.length, jewels: [...new Set(there.flatMap((one) => one.jewels))].sort() };
  });
}

const sum = (groups: readonly Group[]): number => groups.reduce((all, one) => all + one.workloads, 0);

/** Crown jewels first, then what the draft changes, then the largest. */
function itemsOf(groups: readonly Group[], hop: number, unfolded: ReadonlySet<string>): Item[] {
  const isMany = groups.length > MOST_GROUPS;
  const byApplication = new Map<string, Group[]>();
  for (const one of groups) {
    const application = applicationOf(one.who);
    const isAlone = !isMany || unfolded.has(application);
    const id = isAlone ? `${hop} ${one.who}` : `${hop} ${application}`;
    byApplication.set(id, [...(byApplication.get(id) ?? []), one]);
  }
  const items = [...byApplication].map(([id, own]): Item => {
    const kinds = new Set(own.map((one) => one.difference));
    const [kind] = kinds;
    return { id, application: applicationOf(own[0]?.who ?? ""), groups: own, workloads: sum(own), jewels: [...new Set(own.flatMap((one) => one.jewels))].sort(), difference: kinds.size === 1 && kind ? kind : "mixed" };
  });
  const weight = (item: Item): number => (item.jewels.length > 0 ? 2 : 0) + (item.difference === "same" ? 0 : 1);
  return items.sort((a, b) => weight(b) - weight(a) || b.workloads - a.workloads || (a.id < b.id ? -1 : 1));
}

export interface Step {
  from: string;
  to: string;
  services: readonly string[];
  /** The same ends as a question takes them: addresses by one of them. */
  asked: { source: string; destination: string };
}

/** The way from the beginning (`of`, as it was asked) to a group, a step an edge, in the direction of the connections. */
export function pathTo(groups: readonly Group[], who: string, way: "from" | "to", of: string): Step[] {
  const by = new Map(groups.map((one) => [one.who, one]));
  const steps: Step[] = [];
  for (let one = by.get(who); one && steps.length < by.size; one = by.get(one.via)) {
    const isFirst = one.hop === 1;
    const ends = [{ name: isFirst && isPlain(of) ? of : one.via, asked: isFirst && isPlain(of) ? of : (by.get(one.via)?.example || one.via) }, { name: one.who, asked: one.example || one.who }] as const;
    const [source, destination] = way === "from" ? ends : [ends[1], ends[0]];
    steps.push({ from: source.name, to: destination.name, services: one.services, asked: { source: source.asked, destination: destination.asked } });
    if (isFirst) break;
  }
  return way === "from" ? steps.reverse() : steps;
}

/** An address, a name or a word, which its class may have no name for. */
const isPlain = (of: string): boolean => !/[=!,(]/.test(of);

export interface Link {
  from: string;
  to: string;
  difference: Item["difference"];
}

/** Lines between items of neighbouring columns; those of the first come from the beginning (empty). */
export function linksOf(columns: readonly Column[]): Link[] {
  const at = new Map<string, string>();
  for (const column of columns) for (const item of column.items) for (const group of item.groups) at.set(group.who, item.id);
  const found = new Map<string, Link>();
  for (const column of columns) {
    for (const item of column.items) {
      for (const group of item.groups) {
        const from = column.hop === 1 ? "" : (at.get(group.via) ?? "");
        const key = `${from}|${item.id}`;
        const known = found.get(key);
        found.set(key, { from, to: item.id, difference: known && known.difference !== group.difference ? "mixed" : group.difference });
      }
    }
  }
  return [...found.values()];
}
