// A rule's text taken apart, so that it can be read as a sentence. What is not understood is shown as it is written.

export interface Parts {
  from: string;
  to: string;
  service: string;
}

/** Of `allow: {from: [api, db], to: "app=shop,env=prod", service: tcp/80}`; none where it is written otherwise. */
export function partsOf(text: string): Parts | null {
  const body = /allow:\s*\{(.*)\}\s*$/m.exec(text)?.[1];
  if (body === undefined) return null;
  const found = new Map(split(body).map((part): [string, string] => {
    const colon = part.indexOf(":");
    return [part.slice(0, colon).trim(), bare(part.slice(colon + 1).trim())];
  }));
  const [from, to] = [found.get("from"), found.get("to")];
  return from && to ? { from, to, service: found.get("service") ?? "anything" } : null;
}

/** At commas that are in no brackets and no quotes. */
function split(body: string): string[] {
  const parts: string[] = [];
  let [depth, quote, from] = [0, "", 0];
  for (let at = 0; at < body.length; at += 1) {
    const sign = body.charAt(at);
    if (quote) quote = sign === quote ? "" : quote;
    else if (sign === '"' || sign === "'") quote = sign;
    else if ("[{(".includes(sign)) depth += 1;
    else if ("]})".includes(sign)) depth -= 1;
    else if (sign === "," && depth === 0) {
      parts.push(body.slice(from, at));
      from = at + 1;
    }
  }
  return [...parts, body.slice(from)];
}

function bare(text: string): string {
  if (text.startsWith("[") && text.endsWith("]")) return split(text.slice(1, -1)).map((one) => bare(one.trim())).join(", ");
  const quoted = /^(["'])(.*)\1$/.exec(text);
  return (quoted?.[2] ?? text).replace(/^global:\s*/, "");
}

/** The rule without the comment before it. */
export const plainText = (text: string): string => {
  const lines = text.split("\n").filter((line) => !/^\s*#/.test(line) && line.trim() !== "");
  const indent = Math.min(...lines.map((line) => line.length - line.trimStart().length));
  return lines.map((line) => line.slice(Number.isFinite(indent) ? indent : 0)).join("\n");
};
