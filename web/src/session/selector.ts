// Label selectors as the controller reads them: whether labels meet one, and whether one lies within another.

export interface Requirement {
  key: string;
  op: "in" | "notin" | "exists" | "absent";
  values: readonly string[];
}
export type Selector = readonly Requirement[];
type Labels = Readonly<Record<string, string>>;

const KEY = "(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?";
const VALUE = "[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?";
const ONE = new RegExp(`^\\s*(?:!\\s*(?<absent>${KEY})|(?<key>${KEY})\\s*(?:(?<eq>==?|!=)\\s*(?<value>${VALUE})|(?<op>\\bin\\b|\\bnotin\\b)\\s*\\((?<values>[^()]*)\\))?)\\s*$`);

/** Parts between commas, but for those in parentheses. */
const parts = (text: string): string[] => text.split(/,(?![^(]*\))/);

/** None: it is no selector. */
export function parse(text: string): Selector | null {
  const found = parts(text).map(one);
  return found.every((each) => each !== null) ? found : null;
}

function one(text: string): Requirement | null {
  const { absent, key, eq, value, op, values } = ONE.exec(text)?.groups ?? {};
  if (absent) return { key: absent, op: "absent", values: [] };
  if (!key) return null;
  if (eq) return { key, op: eq === "!=" ? "notin" : "in", values: [value ?? ""] };
  if (!op) return { key, op: "exists", values: [] };
  const listed = (values ?? "").split(",").map((each) => each.trim());
  return listed.every((each) => new RegExp(`^${VALUE}$`).test(each)) ? { key, op: op === "in" ? "in" : "notin", values: listed } : null;
}

const met = ({ key, op, values }: Requirement, labels: Labels): boolean => {
  const value = labels[key];
  if (op === "exists" || op === "absent") return (value !== undefined) === (op === "exists");
  return (value !== undefined && values.includes(value)) === (op === "in");
};

/** A workload that lacks a key meets `!=`, `notin` and `!key`. */
export const matches = (selector: Selector, labels: Labels): boolean => selector.every((each) => met(each, labels));

const OPPOSITE = { in: "notin", notin: "in", exists: "absent", absent: "exists" } as const;

/** Whether whatever labels meet `inner` meet `outer`. */
export const isWithin = (inner: Selector, outer: Selector): boolean =>
  !outer.some((each) => isPossible([...inner, { ...each, op: OPPOSITE[each.op] }]));

function isPossible(selector: Selector): boolean {
  return [...new Set(selector.map((each) => each.key))].every((key) => {
    const same = selector.filter((each) => each.key === key);
    const values = [undefined, "\0 a value nobody named", ...same.flatMap((each) => each.values)];
    return values.some((value) => matches(same, value === undefined ? {} : { [key]: value }));
  });
}

/** Why a text is no selector, with what may be meant; empty: it is one. */
export function wrongSelector(text: string): string {
  if (parse(text)) return "";
  const kept = parts(text).map((each) => each.trim()).filter((each) => each !== "");
  const meant = kept.map((each) => (one(each) ? each.replace("==", "=") : each.replace(/[:=]+/, "=").replace(/\s*=\s*/, "="))).join(",");
  return meant !== "" && parse(meant) ? `Did you mean ${meant}?` : "Write it like app=shop,env=prod.";
}
