import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const sources = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((one) => (one.isDirectory() ? sources(join(folder, one.name)) : /(?<!test|schema)\.tsx?$/.test(one.name) ? [join(folder, one.name)] : []));

/** What a page tells people to type: in quotes, backticks or a `code` element. */
const COMMAND = /(?:["`]|<code>)ringfence ([a-z][a-z -]*[a-z])([^"`<]*)/g;

test("every command a page names exists, with the options it names", () => {
  const page = readFileSync("../docs/reference/cli.md", "utf8");
  const sections = new Map(page.split(/^## /m).slice(1).map((text) => [text.split("\n", 1)[0]?.trim() ?? "", text]));
  const named = sources("src").flatMap((file) => [...readFileSync(file, "utf8").matchAll(COMMAND)].map((one) => ({ file, words: one[1]?.split(" ") ?? [], rest: one[2] ?? "", whole: one[0] })));
  expect(named.length).toBeGreaterThan(3);
  for (const { file, words, rest, whole } of named) {
    const name = [2, 1].map((n) => `ringfence ${words.slice(0, n).join(" ")}`).find((one) => sections.has(one));
    expect(name, `${file}: ${whole}`).toBeDefined();
    for (const [option] of `${words.join(" ")}${rest}`.matchAll(/--[a-z-]+/g)) expect(sections.get(name ?? ""), `${file}: ${option}`).toContain(`${option}`);
  }
});
